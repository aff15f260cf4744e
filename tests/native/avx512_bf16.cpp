// The operations of csrc/isa_avx512_bf16.cpp on emulated intrinsics, for processors with AVX2.
#include <immintrin.h>

#include "standard.h"

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")

#define LMO_VNNI
#define LMO_BF16
#define LMO_ISA emulated_avx512_bf16
#include "emulated_avx512.h"
#include "simd_avx512.h"
#include "simd_common.h"
#include "transpose_avx512.h"
#include "linear_impl.h"
#include "packed_impl.h"

#pragma GCC pop_options

namespace lmo {

const Operations& emulated_avx512_vnni_operations();

static void whole_codes_linear(const PackedRun& products) {
    emulated_avx512_vnni_operations().packed_linear(products);
}

const Operations& emulated_avx512_bf16_operations() {
    static const Operations table = [] {
        Operations operations = emulated_avx512_vnni_operations();
        operations.name = "avx512-bf16-emulated";
        operations.linear = emulated_avx512_bf16::linear;
        operations.packed_linear = emulated_avx512_bf16::float8_linear<whole_codes_linear>;
        operations.rounds_inputs = true;
        operations.linear_scratch_bytes = emulated_avx512_bf16::linear_scratch_bytes;
        return operations;
    }();
    return table;
}

}  // namespace lmo
