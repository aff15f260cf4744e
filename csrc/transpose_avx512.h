// Squares of vectors turned round, and bfloat16 pairs split, with AVX-512.
#pragma once

namespace lmo {
namespace LMO_ISA {

// Of each quarter of two vectors: the first two lanes of both, and the last two.
inline Vec first_pairs(Vec a, Vec b) { return _mm512_shuffle_ps(a, b, 0x44); }
inline Vec last_pairs(Vec a, Vec b) { return _mm512_shuffle_ps(a, b, 0xEE); }

// Quarters 0 and 2 of each, then 1 and 3.
inline Vec even_quarters(Vec a, Vec b) { return _mm512_shuffle_f32x4(a, b, 0x88); }
inline Vec odd_quarters(Vec a, Vec b) { return _mm512_shuffle_f32x4(a, b, 0xDD); }

// Lane i of vector j becomes lane j of vector i.
inline __attribute__((always_inline)) void transpose(Vec (&v)[16]) {
    Vec quads[16];  // [4 g + c]: lanes c, c + 4, c + 8 and c + 12 of vectors 4 g to 4 g + 3
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {
        const Vec low = _mm512_unpacklo_ps(v[i], v[i + 1]), high = _mm512_unpackhi_ps(v[i], v[i + 1]);
        const Vec low2 = _mm512_unpacklo_ps(v[i + 2], v[i + 3]);
        const Vec high2 = _mm512_unpackhi_ps(v[i + 2], v[i + 3]);
        quads[i] = first_pairs(low, low2), quads[i + 1] = last_pairs(low, low2);
        quads[i + 2] = first_pairs(high, high2), quads[i + 3] = last_pairs(high, high2);
    }
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) {
        const Vec even = even_quarters(quads[c], quads[4 + c]);
        const Vec odd = odd_quarters(quads[c], quads[4 + c]);
        const Vec even2 = even_quarters(quads[8 + c], quads[12 + c]);
        const Vec odd2 = odd_quarters(quads[8 + c], quads[12 + c]);
        v[c] = even_quarters(even, even2), v[8 + c] = odd_quarters(even, even2);
        v[4 + c] = even_quarters(odd, odd2), v[12 + c] = odd_quarters(odd, odd2);
    }
}

// The first and the second bfloat16 of each 32 bits.
inline Vec first_halves(Vec pairs) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(pairs), 16));
}
inline Vec second_halves(Vec pairs) {
    const __m512i upper = _mm512_set1_epi32(~0xFFFF);
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(pairs), upper));
}

}  // namespace LMO_ISA
}  // namespace lmo
