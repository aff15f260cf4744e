// Begins code for x86 with AVX-512 (F, BW, VL, DQ); target_end.h ends it.
#pragma once

#include <immintrin.h>

#include "standard.h"

#if defined(__clang__)
#pragma clang attribute push( \
    __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512vl," \
                          "avx512dq"))), \
    apply_to = function)
#else
#pragma GCC diagnostic ignored "-Wuninitialized"  // in GCC's own immintrin.h
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")
#endif

#define LMO_ISA avx512
#include "simd_avx512.h"
#include "simd_common.h"
#include "transpose_avx512.h"
