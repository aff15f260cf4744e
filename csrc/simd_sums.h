// Sums of lanes with AVX, in one order for vectors of eight and, after their halves are added, of
// sixteen: ((0+2)+(1+3)) + ((4+6)+(5+7)). Included by simd_avx2.h and simd_avx512.h.
#pragma once

#include <immintrin.h>

namespace lmo {
namespace LMO_ISA {

inline float lane_sum(__m256 a) {
    a = _mm256_add_ps(a, _mm256_permute_ps(a, _MM_SHUFFLE(1, 0, 3, 2)));
    a = _mm256_add_ps(a, _mm256_permute_ps(a, _MM_SHUFFLE(2, 3, 0, 1)));
    return _mm256_cvtss_f32(_mm256_add_ps(a, _mm256_permute2f128_ps(a, a, 1)));
}

// (a0+a2 a1+a3 b0+b2 b1+b3), and the same of lanes 4 to 7.
inline __m256 pair_sums(__m256 a, __m256 b) {
    const __m256d x = _mm256_castps_pd(a), y = _mm256_castps_pd(b);
    return _mm256_add_ps(_mm256_castpd_ps(_mm256_unpacklo_pd(x, y)),
                         _mm256_castpd_ps(_mm256_unpackhi_pd(x, y)));
}

// The lane_sum of each of four vectors, with less than half of the instructions.
inline void lane_sums(__m256 a, __m256 b, __m256 c, __m256 d, float* sums) {
    const __m256 ab = pair_sums(a, b), cd = pair_sums(c, d);
    const __m256 quarters = _mm256_add_ps(_mm256_shuffle_ps(ab, cd, _MM_SHUFFLE(2, 0, 2, 0)),
                                          _mm256_shuffle_ps(ab, cd, _MM_SHUFFLE(3, 1, 3, 1)));
    _mm_storeu_ps(sums, _mm_add_ps(_mm256_castps256_ps128(quarters),
                                   _mm256_extractf128_ps(quarters, 1)));
}

}  // namespace LMO_ISA
}  // namespace lmo
