// Squares of vectors turned round, and bfloat16 pairs split, with AVX2.
#pragma once

namespace lmo {
namespace LMO_ISA {

// Of each half of two vectors: the lower two lanes of both in turn, and the upper two.
inline Vec low_lanes(Vec a, Vec b) { return _mm256_unpacklo_ps(a, b); }
inline Vec high_lanes(Vec a, Vec b) { return _mm256_unpackhi_ps(a, b); }

// The first two lanes of both, and the last two.
inline Vec first_pairs(Vec a, Vec b) { return _mm256_shuffle_ps(a, b, 0x44); }
inline Vec last_pairs(Vec a, Vec b) { return _mm256_shuffle_ps(a, b, 0xEE); }

}  // namespace LMO_ISA
}  // namespace lmo

#include "transpose_quarters.h"

namespace lmo {
namespace LMO_ISA {

// Lane i of vector j becomes lane j of vector i.
inline __attribute__((always_inline)) void transpose(Vec (&v)[8]) {
    Vec quads[8];
    transpose_quarters(v, quads);
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) {
        v[c] = _mm256_permute2f128_ps(quads[c], quads[4 + c], 0x20);
        v[c + 4] = _mm256_permute2f128_ps(quads[c], quads[4 + c], 0x31);
    }
}

// The first and the second bfloat16 of each 32 bits.
inline Vec first_halves(Vec pairs) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(pairs), 16));
}
inline Vec second_halves(Vec pairs) {
    return _mm256_and_ps(pairs, _mm256_castsi256_ps(_mm256_set1_epi32(~0xFFFF)));
}

}  // namespace LMO_ISA
}  // namespace lmo
