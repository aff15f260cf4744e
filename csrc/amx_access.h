// Whether this process may use the tile registers of AMX for products of bytes.
#pragma once

// Compilers that know the instructions, and the one system whose permission is asked for below.
#if defined(__x86_64__) && defined(__linux__)
#if __GNUC__ >= 11 || (defined(__clang__) && __clang_major__ >= 12)
#define LMO_AMX
#endif
#endif

namespace lmo {

// Asks the processor and the operating system; the first call obtains Linux' permission, for all
// threads of the process.
bool may_use_amx();

}  // namespace lmo
