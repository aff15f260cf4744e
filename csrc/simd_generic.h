// Eight floats at a time in plain C++ with compiler vectors: right everywhere, fast nowhere.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "types.h"

#define LMO_BODY  // see simd_avx512.h

namespace lmo {
namespace LMO_ISA {

using Vec = float __attribute__((vector_size(32)));

constexpr int64_t kLanes = 8;  // of a Vec
constexpr int kRegisters = 16;
constexpr int kProductChains = 1;  // sums that keep the multipliers of integers busy

template <class Body>
inline Vec lanes(Body body) {
    Vec result;
    for (int i = 0; i < 8; ++i) result[i] = body(i);
    return result;
}

inline Vec splat(float x) { return Vec{x, x, x, x, x, x, x, x}; }
inline Vec zero() { return splat(0.0f); }
inline Vec fma(Vec a, Vec b, Vec c) { return a * b + c; }

inline Vec in_register(Vec a) { return a; }

// The larger of two; b where either is NaN.
inline Vec max(Vec a, Vec b) {
    return lanes([&](int i) { return a[i] > b[i] ? a[i] : b[i]; });
}
// The smaller of two; b where either is NaN.
inline Vec min(Vec a, Vec b) {
    return lanes([&](int i) { return a[i] < b[i] ? a[i] : b[i]; });
}

inline Vec round(Vec a) {
    return lanes([&](int i) { return std::nearbyint(a[i]); });
}

inline float as_float(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

inline uint32_t as_bits(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

// 2^n for integral n in [-126, 127]; NaN gives any value.
inline Vec pow2(Vec n) {
    return lanes([&](int i) {
        const int power = n[i] == n[i] ? static_cast<int>(n[i]) : 0;
        return as_float(static_cast<uint32_t>(power + 127) << 23);
    });
}

inline float widen(Bf16 x) { return as_float(static_cast<uint32_t>(x.bits) << 16); }

// Shifts the fraction up and corrects the exponent by a product, exact for subnormals too.
inline float widen(F16 x) {
    const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000u) << 16;
    const uint32_t rest = static_cast<uint32_t>(x.bits & 0x7FFFu) << 13;
    if ((x.bits & 0x7C00u) == 0x7C00u) return as_float(sign | 0x7F800000u | rest);
    return as_float(sign | as_bits(as_float(rest) * 0x1p112f));
}

inline Bf16 narrow(float x, Bf16) {
    const uint32_t bits = as_bits(x);
    if (x != x) return Bf16{0x7FC0};
    return Bf16{static_cast<uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16)};
}

// Rounds to nearest even; for subnormals by an addition whose last place is theirs, 2^-24.
inline F16 narrow(float x, F16) {
    const uint32_t sign = (as_bits(x) >> 16) & 0x8000u;
    const float size = std::fabs(x);
    uint32_t bits;
    if (x != x) {
        bits = 0x7E00u;
    } else if (size >= 65520.0f) {
        bits = 0x7C00u;
    } else if (size < 0x1p-14f) {
        bits = as_bits(size + 0.5f) - as_bits(0.5f);
    } else {
        const uint32_t wide = as_bits(size) - (112u << 23);
        bits = (wide + 0xFFFu + ((wide >> 13) & 1u)) >> 13;
    }
    return F16{static_cast<uint16_t>(sign | bits)};
}

// A whole number within its type's range, or NaN, which vectors turn into the least one.
template <class T>
inline T whole(float x) {
    return x == x ? static_cast<T>(x) : std::numeric_limits<T>::min();
}

inline int16_t narrow(float x, int16_t) { return whole<int16_t>(x); }

inline Vec load(const float* p) {
    Vec a;
    std::memcpy(&a, p, sizeof a);
    return a;
}

// At any address, as vectors load: files place what they hold by bytes.
template <class T>
inline Vec load(const T* p) {
    T from[8];
    std::memcpy(from, p, sizeof from);
    return lanes([&](int i) { return widen(from[i]); });
}

inline void store(float* p, Vec a) { std::memcpy(p, &a, sizeof a); }

template <class T>
inline void store(T* p, Vec a) {
    for (int i = 0; i < 8; ++i) p[i] = narrow(a[i], T{});
}

// The largest lane of a vector without NaN.
inline float largest(Vec a) {
    float lanes[8];
    store(lanes, a);
    return *std::max_element(lanes, lanes + 8);
}

// The sum of the lanes.
inline float sum(Vec a) {
    return ((a[0] + a[2]) + (a[1] + a[3])) + ((a[4] + a[6]) + (a[5] + a[7]));
}

inline void four_sums(Vec a, Vec b, Vec c, Vec d, float* sums) {
    sums[0] = sum(a), sums[1] = sum(b), sums[2] = sum(c), sums[3] = sum(d);
}

// Writes a0 b0 a1 b1 and so on, 16 floats.
inline void interleave(Vec a, Vec b, float* p) {
    for (int i = 0; i < 16; ++i) p[i] = i % 2 ? b[i / 2] : a[i / 2];
}

// Eight lanes of 32 bits, each a number or a pair of 16-bit numbers.
using Ints = int32_t __attribute__((vector_size(32)));
using Halves = int16_t __attribute__((vector_size(32)));

inline Ints in_register(Ints a) { return a; }

inline Ints splat(int32_t x) { return Ints{x, x, x, x, x, x, x, x}; }
inline Vec to_float(Ints a) { return __builtin_convertvector(a, Vec); }

inline Ints load_ints(const void* p) {
    Ints a;
    std::memcpy(&a, p, sizeof a);
    return a;
}

inline void store_ints(void* p, Ints a) { std::memcpy(p, &a, sizeof a); }

// Eight lanes of each tile that fills a vector; here of one.
inline Ints load_tiles(const uint8_t* p, int64_t) { return load_ints(p); }

inline Vec load_tiles(const F16* p, int64_t) { return load(p); }

inline Vec load_tiles(const float* p, int64_t) { return load(p); }

// Half of them; the least one, 2^-127, is below the normal floats.
inline Vec load_tiles(const Power* p, int64_t) {
    return lanes([&](int i) {
        const uint32_t bits = static_cast<uint32_t>(p[i].exponent) << 23;
        return as_float(std::max(bits, 1u << 22)) * 0.5f;
    });
}

// Bits 4 * I to 4 * I + 3 of every 16-bit number.
template <int I>
inline Ints nibbles(Ints a) {
    return (a >> (4 * I)) & 0x000F000F;
}

// The lower and the upper byte of every 16-bit number, with their signs.
inline Ints low_bytes(Ints a) { return (Ints)((Halves)a << 8 >> 8); }
inline Ints high_bytes(Ints a) { return (Ints)((Halves)a >> 8); }

// The lower (0) or the upper (1) byte of every 16-bit number, without sign.
template <int I>
inline Ints unsigned_bytes(Ints a) {
    return (a >> (8 * I)) & 0x00FF00FF;
}

// The pair at `p` in every lane.
inline Ints splat_pair(const int16_t* p) {
    int32_t pair;
    std::memcpy(&pair, p, sizeof pair);
    return splat(pair);
}

// sum += a0 * b0 + a1 * b1 in every lane.
inline void add_products(Ints& sum, Ints a, Ints b) {
    sum = sum + (a << 16 >> 16) * (b << 16 >> 16) + (a >> 16) * (b >> 16);
}

// The same with a second sum.
inline void add_products(Ints& sum, Ints& sum2, Ints a, Ints a2, Ints b) {
    add_products(sum, a, b);
    add_products(sum2, a2, b);
}

// The lower and the upper four bits of every byte.
inline Ints low_nibbles(Ints a) { return a & 0x0F0F0F0F; }
inline Ints high_nibbles(Ints a) { return (a >> 4) & 0x0F0F0F0F; }

// Twice the e2m1 float that every byte below 16 stands for, plus 12.
inline Ints float4_bytes(Ints a) {
    uint8_t bytes[sizeof a];
    std::memcpy(bytes, &a, sizeof a);
    for (uint8_t& byte : bytes) byte = kFloat4Bytes[byte];
    std::memcpy(&a, bytes, sizeof a);
    return a;
}

constexpr bool kWideByteSums = false;  // byte_products add up in 32 bits

// The products of unsigned bytes a and signed bytes b, neighbours added up.
inline Ints byte_products(Ints a, Ints b) {
    uint8_t unsigned_bytes[32];
    int8_t signed_bytes[32];
    std::memcpy(unsigned_bytes, &a, sizeof a);
    std::memcpy(signed_bytes, &b, sizeof b);
    Halves sums{};
    for (int i = 0; i < 32; ++i) {
        sums[i / 2] = static_cast<int16_t>(sums[i / 2] + unsigned_bytes[i] * signed_bytes[i]);
    }
    return (Ints)sums;
}

// The same join sums of 16 bits.
inline void add_byte_products(Ints& sum, Ints a, Ints b) {
    sum = (Ints)((Halves)sum + (Halves)byte_products(a, b));
}

// The sums that add_byte_products made, in every lane.
inline Ints byte_sums(Ints a) { return (a << 16 >> 16) + (a >> 16); }

inline Ints add(Ints a, Ints b) { return a + b; }

// Integral values within a byte, in the order of nibbles: 0 4 1 5 2 6 3 7.
inline void store_bytes(uint8_t* p, Vec a) {
    for (int i = 0; i < 8; ++i) p[i % 4 * 2 + i / 4] = static_cast<uint8_t>(whole<int32_t>(a[i]));
}

}  // namespace LMO_ISA
}  // namespace lmo
