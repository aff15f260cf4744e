// Integers beside the floats of simd_avx2.h: eight sums of 32 bits, sixteen factors of 16 bits.
#pragma once

#include "simd_avx2.h"

namespace lmo {
namespace LMO_ISA {

using Ints = __m256i;
using Pairs = __m256i;

inline Ints no_ints() { return _mm256_setzero_si256(); }
inline Ints add(Ints a, Ints b) { return _mm256_add_epi32(a, b); }
inline Vec to_floats(Ints a) { return _mm256_cvtepi32_ps(a); }

// In each lane the sum of the products of two pairs.
inline Ints dot_pairs(Pairs a, Pairs b) { return _mm256_madd_epi16(a, b); }

// The pair that lies at p, in every lane.
inline Pairs splat_pair(const int16_t* p) {
    int32_t pair;
    std::memcpy(&pair, p, sizeof pair);
    return _mm256_set1_epi32(pair);
}

// 32 bytes of codes, eight lanes of `kColumns<Bits>` columns, as pairs of columns; the order of
// bytes and nibbles is that of quant/packing.py.
template <int Bits>
inline void load_codes(const uint8_t* p, Pairs* pairs) {
    const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    if constexpr (Bits == 8) {
        pairs[0] = _mm256_srai_epi16(_mm256_slli_epi16(bytes, 8), 8);
        pairs[1] = _mm256_srai_epi16(bytes, 8);
    } else {
        const __m256i low = _mm256_set1_epi16(0x000F);
        pairs[0] = _mm256_and_si256(bytes, low);
        pairs[1] = _mm256_and_si256(_mm256_srli_epi16(bytes, 4), low);
        pairs[2] = _mm256_and_si256(_mm256_srli_epi16(bytes, 8), low);
        pairs[3] = _mm256_srli_epi16(bytes, 12);
    }
}

// Rounds eight values within int16 to nearest even; any number where a value is NaN.
inline void store_rounded(int16_t* p, Vec a) {
    const __m256i wide = _mm256_cvtps_epi32(a);
    const __m128i narrow =
        _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrow);
}

// `a` where `test` is not zero, else 0.
inline Vec where_nonzero(Vec test, Vec a) {
    return _mm256_and_ps(a, _mm256_cmp_ps(test, _mm256_setzero_ps(), _CMP_NEQ_UQ));
}

}  // namespace LMO_ISA
}  // namespace lmo
