// Sixteen floats at a time with AVX-512 (F, BW, VL, DQ); with LMO_VNNI defined, also with its dot
// products of integers; with LMO_BF16, of bf16 pairs. Included by isa_avx512*.cpp.
#pragma once

#include <immintrin.h>

#include <cstring>

#include "simd_sums.h"
#include "types.h"

// Before the body of an unrolled loop: gcc makes a function of a large one otherwise, to which arrays
// go through memory. With 16 registers that is no loss.
#define LMO_BODY __attribute__((always_inline))

namespace lmo {
namespace LMO_ISA {

using Vec = __m512;

constexpr int64_t kLanes = 16;  // of a Vec
constexpr int kRegisters = 32;

inline Vec splat(float x) { return _mm512_set1_ps(x); }
inline Vec zero() { return _mm512_setzero_ps(); }
inline Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }

// The larger of two; b where either is NaN.
inline Vec max(Vec a, Vec b) { return _mm512_max_ps(a, b); }
// The smaller of two; b where either is NaN.
inline Vec min(Vec a, Vec b) { return _mm512_min_ps(a, b); }

inline Vec round(Vec a) {
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

// 2^n for integral n in [-126, 127].
inline Vec pow2(Vec n) {
    const __m512i biased = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
    return _mm512_castsi512_ps(_mm512_slli_epi32(biased, 23));
}

// With 32 registers the compiler needs no help to keep `a` in one.
inline Vec in_register(Vec a) { return a; }

inline __m256i load_halves(const void* p) {
    return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}

inline void store_halves(void* p, __m256i a) { _mm256_storeu_si256(static_cast<__m256i*>(p), a); }

inline Vec load(const float* p) { return _mm512_loadu_ps(p); }

inline Vec load(const Bf16* p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(load_halves(p)), 16));
}

inline Vec load(const F16* p) { return _mm512_cvtph_ps(load_halves(p)); }

inline void store(float* p, Vec a) { _mm512_storeu_ps(p, a); }

// Rounds to nearest even; NaN becomes the quiet NaN that torch writes.
inline void store(Bf16* p, Vec a) {
    const __m512i bits = _mm512_castps_si512(a);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i bias = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF));
    const __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(bits, bias), 16);
    const __mmask16 nan = _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q);
    const __m512i kept = _mm512_mask_mov_epi32(rounded, nan, _mm512_set1_epi32(0x7FC0));
    store_halves(p, _mm512_cvtepi32_epi16(kept));
}

inline void store(F16* p, Vec a) {
    store_halves(p, _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

// Integral values that fit into 16 bits.
inline void store(int16_t* p, Vec a) {
    store_halves(p, _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(a)));
}

// The largest lane of a vector without NaN.
inline float largest(Vec a) { return _mm512_reduce_max_ps(a); }

// Both halves added up: what is summed then as with AVX2.
inline __m256 half_sums(Vec a) {
    return _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
}

inline float sum(Vec a) { return lane_sum(half_sums(a)); }
inline void four_sums(Vec a, Vec b, Vec c, Vec d, float* sums) {
    lane_sums(half_sums(a), half_sums(b), half_sums(c), half_sums(d), sums);
}

// Sixteen lanes of 32 bits, each a number or a pair of 16-bit numbers.
using Ints = __m512i;

inline Ints in_register(Ints a) { return a; }

inline Ints splat(int32_t x) { return _mm512_set1_epi32(x); }
inline Vec to_float(Ints a) { return _mm512_cvtepi32_ps(a); }

inline Ints load_ints(const void* p) { return _mm512_loadu_si512(p); }
inline void store_ints(void* p, Ints a) { _mm512_storeu_si512(p, a); }

// Eight lanes of each tile that fills a vector; here of two, `stride` bytes apart.
inline Ints load_tiles(const uint8_t* p, int64_t stride) {
    return _mm512_inserti64x4(_mm512_castsi256_si512(load_halves(p)), load_halves(p + stride), 1);
}

// Joined in registers: a load of what two stores have just written to the stack waits for both.
inline Vec load_tiles(const F16* p, int64_t stride) {
    const __m128i* low = reinterpret_cast<const __m128i*>(p);
    const auto* high = reinterpret_cast<const __m128i*>(reinterpret_cast<const uint8_t*>(p) + stride);
    const __m256i first = _mm256_castsi128_si256(_mm_loadu_si128(low));
    return _mm512_cvtph_ps(_mm256_inserti128_si256(first, _mm_loadu_si128(high), 1));
}

inline Vec load_tiles(const float* p, int64_t stride) {
    return _mm512_castsi512_ps(load_tiles(reinterpret_cast<const uint8_t*>(p), stride));
}

// Half of them; the least one, 2^-127, is below the normal floats.
inline Vec load_tiles(const Power* p, int64_t stride) {
    const __m128i low = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
    const __m128i high = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p + stride));
    const __m512i wide = _mm512_cvtepu8_epi32(_mm_unpacklo_epi64(low, high));
    const __m512i bits = _mm512_max_epi32(_mm512_slli_epi32(wide, 23), _mm512_set1_epi32(1 << 22));
    return _mm512_castsi512_ps(bits) * splat(0.5f);
}

// Bits 4 * I to 4 * I + 3 of every 16-bit number.
template <int I>
inline Ints nibbles(Ints a) {
    if constexpr (I == 3) return _mm512_srli_epi16(a, 12);
    return _mm512_and_si512(_mm512_srli_epi16(a, 4 * I), _mm512_set1_epi16(15));
}

// The lower and the upper byte of every 16-bit number, with their signs.
inline Ints low_bytes(Ints a) { return _mm512_srai_epi16(_mm512_slli_epi16(a, 8), 8); }
inline Ints high_bytes(Ints a) { return _mm512_srai_epi16(a, 8); }

// The lower (0) or the upper (1) byte of every 16-bit number, without sign.
template <int I>
inline Ints unsigned_bytes(Ints a) {
    if constexpr (I == 1) return _mm512_srli_epi16(a, 8);
    return _mm512_and_si512(a, _mm512_set1_epi16(255));
}

// The pair at `p` in every lane.
inline Ints splat_pair(const int16_t* p) {
    int32_t pair;
    std::memcpy(&pair, p, sizeof pair);
    return splat(pair);
}

// The lower and the upper four bits of every byte.
inline Ints low_nibbles(Ints a) { return _mm512_and_si512(a, _mm512_set1_epi8(15)); }
inline Ints high_nibbles(Ints a) { return low_nibbles(_mm512_srli_epi16(a, 4)); }

// Twice the e2m1 float that every byte below 16 stands for, plus 12.
inline Ints float4_bytes(Ints a) {
    const __m128i doubled = _mm_loadu_si128(reinterpret_cast<const __m128i*>(kFloat4Bytes));
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(doubled), a);
}

inline Ints add(Ints a, Ints b) { return _mm512_add_epi32(a, b); }

#if defined(LMO_VNNI)

constexpr int kProductChains = 8;  // sums that keep the multipliers of integers busy

// sum += a0 * b0 + a1 * b1 in every lane.
inline void add_products(Ints& sum, Ints a, Ints b) { sum = _mm512_dpwssd_epi32(sum, a, b); }

constexpr bool kWideByteSums = true;  // byte_products add up in 32 bits

// The products of unsigned bytes a and signed bytes b, four neighbours added up.
inline Ints byte_products(Ints a, Ints b) { return _mm512_dpbusd_epi32(splat(0), a, b); }

// The same join sums.
inline void add_byte_products(Ints& sum, Ints a, Ints b) { sum = _mm512_dpbusd_epi32(sum, a, b); }

// The sums that add_byte_products made, in every lane.
inline Ints byte_sums(Ints a) { return a; }

// 256 * upper + lower: a sum of products with 16-bit inputs from those with their bytes.
inline Ints joined_bytes(Ints upper, Ints lower) { return add(_mm512_slli_epi32(upper, 8), lower); }

// Integral values within a byte, in the order of int8 codes: 0 2 1 3, and so on.
inline void store_quads(uint8_t* p, Vec a) {
    const __m128i order = _mm_setr_epi8(0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15);
    const __m128i bytes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_shuffle_epi8(bytes, order));
}

#else

constexpr int kProductChains = 1;

// sum += a0 * b0 + a1 * b1 in every lane.
inline void add_products(Ints& sum, Ints a, Ints b) { sum = add(sum, _mm512_madd_epi16(a, b)); }

constexpr bool kWideByteSums = false;

// The products of unsigned bytes a and signed bytes b, neighbours added up.
inline Ints byte_products(Ints a, Ints b) { return _mm512_maddubs_epi16(a, b); }

// The same join sums of 16 bits.
inline void add_byte_products(Ints& sum, Ints a, Ints b) {
    sum = _mm512_add_epi16(sum, byte_products(a, b));
}

// The sums that add_byte_products made, in every lane.
inline Ints byte_sums(Ints a) { return _mm512_madd_epi16(a, _mm512_set1_epi16(1)); }

#endif

#if defined(LMO_BF16)

// 32 numbers in bf16, rounded to nearest even.
inline Vec to_pairs(Vec first, Vec last) { return (Vec)_mm512_cvtne2ps_pbh(last, first); }

// sum + a0 * b0 + a1 * b1 in every lane (vdpbf16ps).
inline Vec add_pairs(Vec a, Vec b, Vec sum) {
    return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
}

#endif

// The same with a second sum.
inline void add_products(Ints& sum, Ints& sum2, Ints a, Ints a2, Ints b) {
    add_products(sum, a, b);
    add_products(sum2, a2, b);
}

// Integral values within a byte, in the order of nibbles: 0 4 1 5 2 6 3 7, and so on.
inline void store_bytes(uint8_t* p, Vec a) {
    const __m128i order = _mm_setr_epi8(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15);
    const __m128i bytes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_shuffle_epi8(bytes, order));
}

}  // namespace LMO_ISA
}  // namespace lmo
