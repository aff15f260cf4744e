// The operations of csrc/isa_amx.cpp on emulated intrinsics, for processors with AVX2.
#include <immintrin.h>

#include "standard.h"

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")

#define LMO_VNNI
#define LMO_ISA emulated_amx
#include "emulated_amx.h"
#include "emulated_avx512.h"
#include "simd_avx512.h"
#include "simd_common.h"
#include "transpose_avx512.h"
#include "packed_amx.h"

#pragma GCC pop_options

namespace lmo {

const Operations& emulated_avx512_vnni_operations();

static void vector_linear(const PackedRun& products) {
    emulated_avx512_vnni_operations().packed_linear(products);
}

const Operations& emulated_amx_operations() {
    static const Operations table = [] {
        Operations operations = emulated_avx512_vnni_operations();
        operations.name = "amx-emulated";
        operations.packed_linear = emulated_amx::matrix_linear<vector_linear>;
        return operations;
    }();
    return table;
}

}  // namespace lmo
