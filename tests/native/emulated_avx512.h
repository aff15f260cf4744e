// AVX-512 for processors without it: the intrinsics that csrc/simd_avx512.h uses, as two of AVX2 or
// as loops over lanes in the words of Intel's reference. Functions that compute on lanes one by one
// are right if both halves are; those that move, narrow or add up lanes are written out.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#pragma GCC diagnostic ignored "-Wignored-attributes"  // vectors as template arguments

namespace lmo {
namespace emulated {

template <class Half, class Whole>
inline Half part(const Whole& a, int i) {
    Half half;
    std::memcpy(&half, reinterpret_cast<const char*>(&a) + i * sizeof half, sizeof half);
    return half;
}

inline __m256 half(__m512 a, int i) { return part<__m256>(a, i); }
inline __m256i half(__m512i a, int i) { return part<__m256i>(a, i); }
inline __m128i half(__m256i a, int i) { return part<__m128i>(a, i); }

template <class Whole, class Half>
inline Whole join(Half low, Half high) {
    const Half both[2] = {low, high};
    Whole whole;
    std::memcpy(&whole, both, sizeof whole);
    return whole;
}

template <class T, class Whole>
struct Elements {
    static constexpr int kCount = sizeof(Whole) / sizeof(T);
    T at[kCount];

    Elements() = default;
    explicit Elements(const Whole& a) { std::memcpy(at, &a, sizeof a); }

    Whole whole() const {
        Whole a;
        std::memcpy(&a, at, sizeof a);
        return a;
    }
};

using Ints32 = Elements<int32_t, __m512i>;
using Ints16 = Elements<int16_t, __m512i>;

#define LMO_UNARY(To, name, From, half_name)                           \
    inline To name(From a) {                                           \
        return join<To>(half_name(half(a, 0)), half_name(half(a, 1))); \
    }
#define LMO_BINARY(T, name, half_name)                                                     \
    inline T name(T a, T b) {                                                              \
        return join<T>(half_name(half(a, 0), half(b, 0)), half_name(half(a, 1), half(b, 1))); \
    }
#define LMO_SHIFT(name)                                                               \
    inline __m512i name(__m512i a, int n) {                                           \
        return join<__m512i>(_mm256_##name(half(a, 0), n), _mm256_##name(half(a, 1), n)); \
    }

LMO_UNARY(__m512i, cvtepu16_epi32, __m256i, _mm256_cvtepu16_epi32)
LMO_UNARY(__m512, cvtph_ps, __m256i, _mm256_cvtph_ps)
LMO_UNARY(__m512i, cvtps_epi32, __m512, _mm256_cvtps_epi32)
LMO_UNARY(__m512, cvtepi32_ps, __m512i, _mm256_cvtepi32_ps)
LMO_BINARY(__m512, max_ps, _mm256_max_ps)
LMO_BINARY(__m512, min_ps, _mm256_min_ps)
LMO_BINARY(__m512, unpacklo_ps, _mm256_unpacklo_ps)
LMO_BINARY(__m512, unpackhi_ps, _mm256_unpackhi_ps)
LMO_BINARY(__m512i, add_epi32, _mm256_add_epi32)
LMO_BINARY(__m512i, add_epi16, _mm256_add_epi16)
LMO_BINARY(__m512i, max_epi32, _mm256_max_epi32)
LMO_BINARY(__m512i, shuffle_epi8, _mm256_shuffle_epi8)
LMO_BINARY(__m512i, and_si512, _mm256_and_si256)
LMO_BINARY(__m512i, madd_epi16, _mm256_madd_epi16)
LMO_BINARY(__m512i, maddubs_epi16, _mm256_maddubs_epi16)
LMO_SHIFT(slli_epi32)
LMO_SHIFT(srli_epi32)
LMO_SHIFT(slli_epi16)
LMO_SHIFT(srli_epi16)
LMO_SHIFT(srai_epi16)

inline __m512 set1_ps(float x) { return join<__m512>(_mm256_set1_ps(x), _mm256_set1_ps(x)); }
inline __m512 setzero_ps() { return set1_ps(0.0f); }

inline __m512i twice(__m256i a) { return join<__m512i>(a, a); }
inline __m512i set1_epi32(int x) { return twice(_mm256_set1_epi32(x)); }
inline __m512i set1_epi16(short x) { return twice(_mm256_set1_epi16(x)); }
inline __m512i set1_epi8(char x) { return twice(_mm256_set1_epi8(x)); }

inline __m512i broadcast_i32x4(__m128i a) { return twice(_mm256_broadcastsi128_si256(a)); }
inline __m512i cvtepu8_epi32(__m128i a) {
    const __m128i high = _mm_unpackhi_epi64(a, a);
    return join<__m512i>(_mm256_cvtepu8_epi32(a), _mm256_cvtepu8_epi32(high));
}

inline __m512 castsi512_ps(__m512i a) { return part<__m512>(a, 0); }
inline __m512i castps_si512(__m512 a) { return part<__m512i>(a, 0); }
inline __m256 castps512_ps256(__m512 a) { return half(a, 0); }
inline __m512i castsi256_si512(__m256i a) { return join<__m512i>(a, _mm256_set1_epi8(-1)); }

inline __m512 loadu_ps(const void* p) {
    __m512 a;
    std::memcpy(&a, p, sizeof a);
    return a;
}
inline __m512i loadu_si512(const void* p) { return castps_si512(loadu_ps(p)); }
inline void storeu_ps(void* p, __m512 a) { std::memcpy(p, &a, sizeof a); }
inline void storeu_si512(void* p, __m512i a) { std::memcpy(p, &a, sizeof a); }

inline __m512 fmadd_ps(__m512 a, __m512 b, __m512 c) {
    return join<__m512>(_mm256_fmadd_ps(half(a, 0), half(b, 0), half(c, 0)),
                        _mm256_fmadd_ps(half(a, 1), half(b, 1), half(c, 1)));
}

template <int Mode>
inline __m512 roundscale_ps(__m512 a) {
    return join<__m512>(_mm256_round_ps(half(a, 0), Mode), _mm256_round_ps(half(a, 1), Mode));
}

template <int Mode>
inline __m256i cvtps_ph(__m512 a) {
    return join<__m256i>(_mm256_cvtps_ph(half(a, 0), Mode), _mm256_cvtps_ph(half(a, 1), Mode));
}

template <int Predicate>
inline __mmask16 cmp_ps_mask(__m512 a, __m512 b) {
    const int low = _mm256_movemask_ps(_mm256_cmp_ps(half(a, 0), half(b, 0), Predicate));
    const int high = _mm256_movemask_ps(_mm256_cmp_ps(half(a, 1), half(b, 1), Predicate));
    return static_cast<__mmask16>(high << 8 | low);
}

inline __m512i mask_mov_epi32(__m512i source, __mmask16 mask, __m512i a) {
    Ints32 out(source);
    for (int i = 0; i < 16; ++i) out.at[i] = mask >> i & 1 ? Ints32(a).at[i] : out.at[i];
    return out.whole();
}

template <int Index>
inline __m256 extractf32x8_ps(__m512 a) {
    return half(a, Index);
}

template <int Order>
inline __m512 shuffle_ps(__m512 a, __m512 b) {
    return join<__m512>(_mm256_shuffle_ps(half(a, 0), half(b, 0), Order),
                        _mm256_shuffle_ps(half(a, 1), half(b, 1), Order));
}

// Two quarters of a, then two of b.
template <int Order>
inline __m512 shuffle_f32x4(__m512 a, __m512 b) {
    __m128 quarters[4];
    for (int i = 0; i < 4; ++i) quarters[i] = part<__m128>(i < 2 ? a : b, Order >> 2 * i & 3);
    return part<__m512>(quarters, 0);
}

template <int Index>
inline __m512i inserti64x4(__m512i a, __m256i b) {
    return Index == 0 ? join<__m512i>(b, half(a, 1)) : join<__m512i>(half(a, 0), b);
}

// The lower bits of every lane, which is a From.
template <class From, class T, class Whole>
inline Whole truncated(__m512i a) {
    const Elements<From, __m512i> in(a);
    Elements<T, Whole> out;
    for (int i = 0; i < in.kCount; ++i) out.at[i] = static_cast<T>(in.at[i]);
    return out.whole();
}
inline __m256i cvtepi16_epi8(__m512i a) { return truncated<int16_t, int8_t, __m256i>(a); }
inline __m256i cvtepi32_epi16(__m512i a) { return truncated<int32_t, int16_t, __m256i>(a); }
inline __m128i cvtepi32_epi8(__m512i a) { return truncated<int32_t, int8_t, __m128i>(a); }

inline __m256i cvtsepi32_epi16(__m512i a) {
    Ints32 in(a);
    for (int32_t& lane : in.at) lane = std::clamp(lane, INT16_MIN, INT16_MAX);
    return cvtepi32_epi16(in.whole());
}

inline float reduce_max_ps(__m512 a) {
    const Elements<float, __m512> in(a);
    return *std::max_element(in.at, in.at + 16);
}

inline __m512i dpwssd_epi32(__m512i sum, __m512i a, __m512i b) {
    Ints32 out(sum);
    const Ints16 x(a), y(b);
    for (int i = 0; i < 32; ++i) out.at[i / 2] += x.at[i] * y.at[i];
    return out.whole();
}

inline __m512i dpbusd_epi32(__m512i sum, __m512i a, __m512i b) {
    Ints32 out(sum);
    const Elements<uint8_t, __m512i> x(a);
    const Elements<int8_t, __m512i> y(b);
    for (int i = 0; i < 64; ++i) out.at[i / 4] += x.at[i] * y.at[i];
    return out.whole();
}

// A bf16 number as a float; subnormal ones count as zero.
inline float from_bf16(uint16_t bits) {
    const uint32_t wide = static_cast<uint32_t>((bits & 0x7F80) ? bits : bits & 0x8000) << 16;
    float value;
    std::memcpy(&value, &wide, sizeof value);
    return value;
}

inline uint16_t to_bf16(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    if (value != value) return static_cast<uint16_t>(bits >> 16 | 0x40);
    return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

inline __m512i cvtne2ps_pbh(__m512 last, __m512 first) {
    const Elements<float, __m512> x(first), y(last);
    Elements<uint16_t, __m512i> out;
    for (int i = 0; i < 16; ++i) out.at[i] = to_bf16(x.at[i]), out.at[i + 16] = to_bf16(y.at[i]);
    return out.whole();
}

inline __m512 dpbf16_ps(__m512 sum, __m512bh a, __m512bh b) {
    Elements<float, __m512> out(sum);
    const Elements<uint16_t, __m512bh> x(a), y(b);
    for (int i = 0; i < 32; ++i) {
        float& lane = out.at[(i ^ 1) / 2];  // the upper one of a pair first
        lane = std::fma(from_bf16(x.at[i ^ 1]), from_bf16(y.at[i ^ 1]), lane);
    }
    return out.whole();
}

#undef LMO_UNARY
#undef LMO_BINARY
#undef LMO_SHIFT

}  // namespace emulated
}  // namespace lmo

#undef _mm512_roundscale_ps
#undef _mm512_cvtps_ph
#undef _mm512_cmp_ps_mask
#undef _mm512_extractf32x8_ps
#undef _mm512_inserti64x4
#undef _mm512_shuffle_ps
#undef _mm512_shuffle_f32x4
#define _mm512_roundscale_ps(a, mode) lmo::emulated::roundscale_ps<mode>(a)
#define _mm512_cvtps_ph(a, mode) lmo::emulated::cvtps_ph<mode>(a)
#define _mm512_cmp_ps_mask(a, b, predicate) lmo::emulated::cmp_ps_mask<predicate>(a, b)
#define _mm512_extractf32x8_ps(a, index) lmo::emulated::extractf32x8_ps<index>(a)
#define _mm512_inserti64x4(a, b, index) lmo::emulated::inserti64x4<index>(a, b)
#define _mm512_shuffle_ps(a, b, order) lmo::emulated::shuffle_ps<order>(a, b)
#define _mm512_shuffle_f32x4(a, b, order) lmo::emulated::shuffle_f32x4<order>(a, b)
#define _mm512_add_epi16 lmo::emulated::add_epi16
#define _mm512_add_epi32 lmo::emulated::add_epi32
#define _mm512_and_si512 lmo::emulated::and_si512
#define _mm512_broadcast_i32x4 lmo::emulated::broadcast_i32x4
#define _mm512_castps512_ps256 lmo::emulated::castps512_ps256
#define _mm512_castps_si512 lmo::emulated::castps_si512
#define _mm512_castsi256_si512 lmo::emulated::castsi256_si512
#define _mm512_castsi512_ps lmo::emulated::castsi512_ps
#define _mm512_cvtepi16_epi8 lmo::emulated::cvtepi16_epi8
#define _mm512_cvtepi32_epi16 lmo::emulated::cvtepi32_epi16
#define _mm512_cvtepi32_epi8 lmo::emulated::cvtepi32_epi8
#define _mm512_cvtepi32_ps lmo::emulated::cvtepi32_ps
#define _mm512_cvtepu16_epi32 lmo::emulated::cvtepu16_epi32
#define _mm512_cvtepu8_epi32 lmo::emulated::cvtepu8_epi32
#define _mm512_cvtne2ps_pbh lmo::emulated::cvtne2ps_pbh
#define _mm512_cvtph_ps lmo::emulated::cvtph_ps
#define _mm512_cvtps_epi32 lmo::emulated::cvtps_epi32
#define _mm512_cvtsepi32_epi16 lmo::emulated::cvtsepi32_epi16
#define _mm512_dpbf16_ps lmo::emulated::dpbf16_ps
#define _mm512_dpbusd_epi32 lmo::emulated::dpbusd_epi32
#define _mm512_dpwssd_epi32 lmo::emulated::dpwssd_epi32
#define _mm512_fmadd_ps lmo::emulated::fmadd_ps
#define _mm512_loadu_ps lmo::emulated::loadu_ps
#define _mm512_loadu_si512 lmo::emulated::loadu_si512
#define _mm512_madd_epi16 lmo::emulated::madd_epi16
#define _mm512_maddubs_epi16 lmo::emulated::maddubs_epi16
#define _mm512_mask_mov_epi32 lmo::emulated::mask_mov_epi32
#define _mm512_max_epi32 lmo::emulated::max_epi32
#define _mm512_max_ps lmo::emulated::max_ps
#define _mm512_min_ps lmo::emulated::min_ps
#define _mm512_reduce_max_ps lmo::emulated::reduce_max_ps
#define _mm512_set1_epi16 lmo::emulated::set1_epi16
#define _mm512_set1_epi32 lmo::emulated::set1_epi32
#define _mm512_set1_epi8 lmo::emulated::set1_epi8
#define _mm512_set1_ps lmo::emulated::set1_ps
#define _mm512_setzero_ps lmo::emulated::setzero_ps
#define _mm512_shuffle_epi8 lmo::emulated::shuffle_epi8
#define _mm512_slli_epi16 lmo::emulated::slli_epi16
#define _mm512_slli_epi32 lmo::emulated::slli_epi32
#define _mm512_srai_epi16 lmo::emulated::srai_epi16
#define _mm512_srli_epi16 lmo::emulated::srli_epi16
#define _mm512_srli_epi32 lmo::emulated::srli_epi32
#define _mm512_storeu_ps lmo::emulated::storeu_ps
#define _mm512_storeu_si512 lmo::emulated::storeu_si512
#define _mm512_unpackhi_ps lmo::emulated::unpackhi_ps
#define _mm512_unpacklo_ps lmo::emulated::unpacklo_ps
