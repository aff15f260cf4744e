// Eight floats at a time with AVX2, FMA and F16C; included by isa_avx2.cpp.
#pragma once

#include <immintrin.h>

#include "simd_sums.h"
#include "types.h"

#define LMO_BODY  // see simd_avx512.h

namespace lmo {
namespace LMO_ISA {

using Vec = __m256;

constexpr int64_t kLanes = 8;  // of a Vec
constexpr int kRegisters = 16;
constexpr int kProductChains = 1;  // sums that keep the multipliers of integers busy

inline Vec splat(float x) { return _mm256_set1_ps(x); }
inline Vec zero() { return _mm256_setzero_ps(); }
inline Vec fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }

// The larger of two; b where either is NaN.
inline Vec max(Vec a, Vec b) { return _mm256_max_ps(a, b); }
// The smaller of two; b where either is NaN.
inline Vec min(Vec a, Vec b) { return _mm256_min_ps(a, b); }

inline Vec round(Vec a) {
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

// 2^n for integral n in [-126, 127].
inline Vec pow2(Vec n) {
    const __m256i biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(biased, 23));
}

// Keeps the compiler from loading the same memory again at every use of `a`.
inline Vec in_register(Vec a) {
    asm("" : "+x"(a));
    return a;
}

inline Vec load(const float* p) { return _mm256_loadu_ps(p); }

inline Vec load(const Bf16* p) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}

inline Vec load(const F16* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}

inline void store(float* p, Vec a) { _mm256_storeu_ps(p, a); }

// Rounds to nearest even; NaN becomes the quiet NaN that torch writes.
inline void store(Bf16* p, Vec a) {
    const __m256i bits = _mm256_castps_si256(a);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i bias = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF));
    const __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(bits, bias), 16);
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q));
    const __m256i kept = _mm256_blendv_epi8(rounded, _mm256_set1_epi32(0x7FC0), nan);
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(kept, kept), 0x08);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(packed));
}

inline void store(F16* p, Vec a) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                     _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

// Integral values that fit into 16 bits.
inline void store(int16_t* p, Vec a) {
    const __m256i wide = _mm256_cvtps_epi32(a);
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packs_epi32(wide, wide), 0x08);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(packed));
}

// The largest lane of a vector without NaN.
inline float largest(Vec a) {
    a = _mm256_max_ps(a, _mm256_permute2f128_ps(a, a, 1));
    a = _mm256_max_ps(a, _mm256_permute_ps(a, _MM_SHUFFLE(1, 0, 3, 2)));
    a = _mm256_max_ps(a, _mm256_permute_ps(a, _MM_SHUFFLE(2, 3, 0, 1)));
    return _mm256_cvtss_f32(a);
}

// Writes a0 b0 a1 b1 and so on, 16 floats.
inline void interleave(Vec a, Vec b, float* p) {
    const Vec low = _mm256_unpacklo_ps(a, b), high = _mm256_unpackhi_ps(a, b);
    store(p, _mm256_permute2f128_ps(low, high, 0x20));
    store(p + 8, _mm256_permute2f128_ps(low, high, 0x31));
}

inline float sum(Vec a) { return lane_sum(a); }
inline void four_sums(Vec a, Vec b, Vec c, Vec d, float* sums) { lane_sums(a, b, c, d, sums); }

// Eight lanes of 32 bits, each a number or a pair of 16-bit numbers.
using Ints = __m256i;

inline Ints in_register(Ints a) {
    asm("" : "+x"(a));
    return a;
}

inline Ints splat(int32_t x) { return _mm256_set1_epi32(x); }
inline Vec to_float(Ints a) { return _mm256_cvtepi32_ps(a); }

inline Ints load_ints(const void* p) {
    return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}

inline void store_ints(void* p, Ints a) { _mm256_storeu_si256(static_cast<__m256i*>(p), a); }

// Eight lanes of each tile that fills a vector; here of one.
inline Ints load_tiles(const uint8_t* p, int64_t) { return load_ints(p); }

inline Vec load_tiles(const F16* p, int64_t) { return load(p); }

inline Vec load_tiles(const float* p, int64_t) { return load(p); }

// Half of them; the least one, 2^-127, is below the normal floats.
inline Vec load_tiles(const Power* p, int64_t) {
    const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
    const __m256i bits = _mm256_slli_epi32(_mm256_cvtepu8_epi32(bytes), 23);
    return _mm256_castsi256_ps(_mm256_max_epi32(bits, _mm256_set1_epi32(1 << 22))) * splat(0.5f);
}

// Bits 4 * I to 4 * I + 3 of every 16-bit number.
template <int I>
inline Ints nibbles(Ints a) {
    if constexpr (I == 3) return _mm256_srli_epi16(a, 12);
    return _mm256_and_si256(_mm256_srli_epi16(a, 4 * I), _mm256_set1_epi16(15));
}

// The lower and the upper byte of every 16-bit number, with their signs.
inline Ints low_bytes(Ints a) { return _mm256_srai_epi16(_mm256_slli_epi16(a, 8), 8); }
inline Ints high_bytes(Ints a) { return _mm256_srai_epi16(a, 8); }

// The lower (0) or the upper (1) byte of every 16-bit number, without sign.
template <int I>
inline Ints unsigned_bytes(Ints a) {
    if constexpr (I == 1) return _mm256_srli_epi16(a, 8);
    return _mm256_and_si256(a, _mm256_set1_epi16(255));
}

// The pair at `p` in every lane. This and the next ones are assembly to keep their order: moved
// apart by the compiler, they need more registers than there are.
inline Ints splat_pair(const int16_t* p) {
    Ints a;
    asm volatile("vpbroadcastd %1, %0" : "=x"(a) : "m"(*reinterpret_cast<const int32_t*>(p)));
    return a;
}

// sum += a0 * b0 + a1 * b1 in every lane.
inline void add_products(Ints& sum, Ints a, Ints b) {
    Ints product, kept = sum;
    asm volatile("vpmaddwd %2, %3, %1\n\tvpaddd %1, %0, %0"
                 : "+x"(kept), "=&x"(product)
                 : "x"(a), "x"(b));
    sum = kept;
}

// The same with a second sum.
inline void add_products(Ints& sum, Ints& sum2, Ints a, Ints a2, Ints b) {
    Ints product, product2, kept = sum, kept2 = sum2;
    asm volatile(
        "vpmaddwd %4, %6, %2\n\tvpmaddwd %5, %6, %3\n\t"
        "vpaddd %2, %0, %0\n\tvpaddd %3, %1, %1"
        : "+x"(kept), "+x"(kept2), "=&x"(product), "=&x"(product2)
        : "x"(a), "x"(a2), "x"(b));
    sum = kept;
    sum2 = kept2;
}

// The lower and the upper four bits of every byte.
inline Ints low_nibbles(Ints a) { return _mm256_and_si256(a, _mm256_set1_epi8(15)); }
inline Ints high_nibbles(Ints a) { return low_nibbles(_mm256_srli_epi16(a, 4)); }

// Twice the e2m1 float that every byte below 16 stands for, plus 12.
inline Ints float4_bytes(Ints a) {
    const __m128i doubled = _mm_loadu_si128(reinterpret_cast<const __m128i*>(kFloat4Bytes));
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(doubled), a);
}

constexpr bool kWideByteSums = false;  // byte_products add up in 32 bits

// The products of unsigned bytes a and signed bytes b, neighbours added up.
inline Ints byte_products(Ints a, Ints b) {
    Ints product;
    asm volatile("vpmaddubsw %2, %1, %0" : "=x"(product) : "x"(a), "x"(b));
    return product;
}

// The same join sums of 16 bits.
inline void add_byte_products(Ints& sum, Ints a, Ints b) {
    Ints product, kept = sum;
    asm volatile("vpmaddubsw %3, %2, %1\n\tvpaddw %1, %0, %0"
                 : "+x"(kept), "=&x"(product)
                 : "x"(a), "x"(b));
    sum = kept;
}

// The sums that add_byte_products made, in every lane.
inline Ints byte_sums(Ints a) { return _mm256_madd_epi16(a, _mm256_set1_epi16(1)); }

inline Ints add(Ints a, Ints b) { return _mm256_add_epi32(a, b); }

// Integral values within a byte, in the order of nibbles: 0 4 1 5 2 6 3 7.
inline void store_bytes(uint8_t* p, Vec a) {
    const __m256i first = _mm256_set1_epi32(0x0C080400);  // bytes of the four lanes of a half
    const __m256i bytes = _mm256_shuffle_epi8(_mm256_cvtps_epi32(a), first);
    const __m128i low = _mm256_castsi256_si128(bytes), high = _mm256_extracti128_si256(bytes, 1);
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_unpacklo_epi8(low, high));
}

}  // namespace LMO_ISA
}  // namespace lmo
