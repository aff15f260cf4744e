// Squares of vectors turned round, and bfloat16 pairs split, with AVX2.
#pragma once

namespace lmo {
namespace LMO_ISA {

// Of each half of two vectors: the first two lanes of both, and the last two.
inline Vec first_pairs(Vec a, Vec b) { return _mm256_shuffle_ps(a, b, 0x44); }
inline Vec last_pairs(Vec a, Vec b) { return _mm256_shuffle_ps(a, b, 0xEE); }

// Lane i of vector j becomes lane j of vector i.
inline __attribute__((always_inline)) void transpose(Vec (&v)[8]) {
    Vec quads[8];  // [4 g + c]: lanes c and c + 4 of vectors 4 g to 4 g + 3
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4) {
        const Vec low = _mm256_unpacklo_ps(v[i], v[i + 1]), high = _mm256_unpackhi_ps(v[i], v[i + 1]);
        const Vec low2 = _mm256_unpacklo_ps(v[i + 2], v[i + 3]);
        const Vec high2 = _mm256_unpackhi_ps(v[i + 2], v[i + 3]);
        quads[i] = first_pairs(low, low2), quads[i + 1] = last_pairs(low, low2);
        quads[i + 2] = first_pairs(high, high2), quads[i + 3] = last_pairs(high, high2);
    }
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
