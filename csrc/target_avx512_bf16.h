// Begins code for x86 with AVX-512 (F, BW, VL, DQ, VNNI, BF16); target_end.h ends it.
#pragma once

#include <immintrin.h>

#include "standard.h"

#if defined(__clang__)
#pragma clang attribute push( \
    __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512vl," \
                          "avx512dq,avx512vnni,avx512bf16"))), \
    apply_to = function)
#else
#pragma GCC diagnostic ignored "-Wuninitialized"  // in GCC's own immintrin.h
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16")
#endif

#define LMO_VNNI
#define LMO_BF16
#define LMO_ISA avx512_bf16
#include "simd_avx512.h"
#include "simd_common.h"
#include "transpose_avx512.h"
