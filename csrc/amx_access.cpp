#include "amx_access.h"

#if defined(LMO_AMX)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace lmo {
namespace {

constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM, of Linux 5.16
constexpr long kTileData = 18;               // the state that it is for
constexpr unsigned kTileStates = 3u << 17;   // configuration and data, in XCR0
constexpr unsigned kTileInt8 = 3u << 24;     // AMX-TILE and AMX-INT8, in EDX of leaf 7
constexpr unsigned kXgetbv = 1u << 27;       // OSXSAVE, in ECX of leaf 1

bool processor_has_tiles() {
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & kTileInt8) == kTileInt8;
}

bool system_saves_tiles() {
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & kXgetbv)) return false;
    unsigned low, high;
    asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & kTileStates) == kTileStates;
}

// Without it the first use of a tile register ends the process.
bool obtain_permission() { return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0; }

}  // namespace

bool may_use_amx() {
    static const bool may = processor_has_tiles() && system_saves_tiles() && obtain_permission();
    return may;
}

}  // namespace lmo

#else

bool lmo::may_use_amx() { return false; }

#endif
