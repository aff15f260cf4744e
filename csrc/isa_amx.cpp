// The operations for x86 with AMX (TILE, INT8) beside AVX-512: packed products of many rows are its
// own, all else is that of AVX-512 VNNI.
#include "amx_access.h"

#if defined(LMO_AMX)
#include <immintrin.h>

#include "standard.h"

#if defined(__clang__)
#pragma clang attribute push( \
    __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni," \
                          "amx-tile,amx-int8"))), \
    apply_to = function)
#else
#pragma GCC diagnostic ignored "-Wuninitialized"  // in GCC's own immintrin.h
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC push_options
#pragma GCC target( \
    "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,amx-tile,amx-int8")
#endif

#define LMO_VNNI
#define LMO_ISA amx
#include "simd_avx512.h"
#include "simd_common.h"
#include "transpose_avx512.h"
#include "packed_amx.h"

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

namespace lmo {

const Operations& amx_operations() {
    static const Operations table = [] {
        Operations operations = avx512_vnni_operations();
        operations.name = "amx";
        operations.packed_linear = amx::matrix_linear;
        return operations;
    }();
    return table;
}

}  // namespace lmo
#endif
