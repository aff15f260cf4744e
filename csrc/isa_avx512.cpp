// The operations for x86 with AVX-512 (F, BW, VL, DQ).
#if defined(__x86_64__)
#include "target_avx512.h"

#include "isa_table.h"
#include "target_end.h"

namespace lmo {

const Operations& avx512_operations() {
    static constexpr Operations table = avx512::operations("avx512");
    return table;
}

}  // namespace lmo
#endif
