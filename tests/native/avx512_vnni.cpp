// The operations of csrc/isa_avx512_vnni.cpp on emulated intrinsics, for processors with AVX2.
#include <immintrin.h>

#include "standard.h"

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")

#define LMO_VNNI
#define LMO_ISA emulated_avx512_vnni
#include "emulated_avx512.h"
#include "simd_avx512.h"
#include "simd_common.h"
#include "transpose_avx512.h"
#include "attention_impl.h"
#include "isa_table.h"
#include "packed_impl.h"

#pragma GCC pop_options

namespace lmo {

const Operations& emulated_avx512_vnni_operations() {
    static constexpr Operations table = emulated_avx512_vnni::operations("avx512-vnni-emulated");
    return table;
}

}  // namespace lmo
