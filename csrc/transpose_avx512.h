// Squares of vectors turned round, and bfloat16 pairs split, with AVX-512.
#pragma once

namespace lmo {
namespace LMO_ISA {

// Of each quarter of two vectors: the lower two lanes of both in turn, and the upper two.
inline Vec low_lanes(Vec a, Vec b) { return _mm512_unpacklo_ps(a, b); }
inline Vec high_lanes(Vec a, Vec b) { return _mm512_unpackhi_ps(a, b); }

// The first two lanes of both, and the last two.
inline Vec first_pairs(Vec a, Vec b) { return _mm512_shuffle_ps(a, b, 0x44); }
inline Vec last_pairs(Vec a, Vec b) { return _mm512_shuffle_ps(a, b, 0xEE); }

// Quarters 0 and 2 of each, then 1 and 3.
inline Vec even_quarters(Vec a, Vec b) { return _mm512_shuffle_f32x4(a, b, 0x88); }
inline Vec odd_quarters(Vec a, Vec b) { return _mm512_shuffle_f32x4(a, b, 0xDD); }

}  // namespace LMO_ISA
}  // namespace lmo

#include "transpose_quarters.h"

namespace lmo {
namespace LMO_ISA {

// Lane i of vector j becomes lane j of vector i.
inline __attribute__((always_inline)) void transpose(Vec (&v)[16]) {
    Vec quads[16];
    transpose_quarters(v, quads);
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
