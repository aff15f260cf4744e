// The operations for x86 with AVX2, FMA and F16C. Another instruction set is another file like
// this one, with its own simd_*.h.
#if defined(__x86_64__)
#include <immintrin.h>

#include "standard.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif

#define LMO_ISA avx2
#include "simd_avx2.h"
#include "simd_common.h"
#include "transpose_avx2.h"
#include "isa_table.h"

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

namespace lmo {

const Operations& avx2_operations() {
    static constexpr Operations table = avx2::operations("avx2");
    return table;
}

}  // namespace lmo
#endif
