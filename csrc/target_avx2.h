// Begins code for x86 with AVX2, FMA and F16C; target_end.h ends it. Another instruction set is another
// header like this one, with its own simd_*.h.
#pragma once

#include <immintrin.h>

#include "standard.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif

#define LMO_ISA avx2
#include "simd_avx2.h"
#include "simd_common.h"
#include "transpose_avx2.h"
