// What every instruction set's vectors share; included after one of simd_*.h.
#pragma once

#include <algorithm>
#include <cstring>

namespace lmo {
namespace LMO_ISA {

// Asks for a cache line. Always inlined: gcc takes a function that only asks for one without effect
// and drops its call.
inline __attribute__((always_inline)) void prefetch(const void* p) { __builtin_prefetch(p, 0, 3); }

// The same into the second level only, where more lines can be on their way.
inline __attribute__((always_inline)) void prefetch_far(const void* p) {
    __builtin_prefetch(p, 0, 2);
}

// How much of a vector is there: all of it, or the first `count` lanes and zeros.
struct Whole {};
struct Part {
    int64_t count;
};

template <class T>
inline Vec load(const T* p, Whole) {
    return load(p);
}

template <class T>
inline Vec load(const T* p, Part part) {
    T lanes[kLanes] = {};
    std::memcpy(lanes, p, static_cast<size_t>(part.count) * sizeof(T));
    return load(lanes);
}

template <class T>
inline void store(T* p, Vec a, Whole) {
    store(p, a);
}

template <class T>
inline void store(T* p, Vec a, Part part) {
    T lanes[kLanes];
    store(lanes, a);
    std::memcpy(p, lanes, static_cast<size_t>(part.count) * sizeof(T));
}

// The vector at `p`, with `rest` in the lanes that a span does not cover.
inline Vec load_or(float, const float* p, Whole) { return load(p); }

inline Vec load_or(float rest, const float* p, Part part) {
    float lanes[kLanes];
    std::fill_n(lanes, kLanes, rest);
    std::memcpy(lanes, p, static_cast<size_t>(part.count) * sizeof(float));
    return load(lanes);
}

// The lanes of `a` that a span covers; zero in the others.
inline Vec first_lanes(Vec a, Whole) { return a; }

inline Vec first_lanes(Vec a, Part part) {
    float lanes[kLanes] = {};
    store(lanes, a, part);
    return load(lanes);
}

// Calls body(i, Whole or Part) for the steps of so many columns that cover [0, n).
template <int64_t columns, class Body>
inline __attribute__((always_inline)) void each_step(int64_t n, const Body& body) {
    const int64_t whole = n & ~(columns - 1);
    for (int64_t i = 0; i < whole; i += columns) body(i, Whole{});
    if (whole < n) body(whole, Part{n - whole});
}

// Calls body(i, Whole or Part) for the vectors that cover [0, n).
template <class Body>
inline __attribute__((always_inline)) void each_vector(int64_t n, const Body& body) {
    each_step<kLanes>(n, body);
}

inline float first(Vec a) {
    float lanes[kLanes];
    store(lanes, a);
    return lanes[0];
}

// e^x within 2 ulp by Cody and Waite's reduction and a polynomial; exactly 0 below -104 and
// infinite above 89; NaN stays NaN.
inline Vec exp(Vec x) {
    x = min(splat(89.0f), max(splat(-105.0f), x));
    const Vec n = round(x * splat(1.44269504f));
    const Vec r = fma(n, splat(2.12194440e-4f), fma(n, splat(-0.693359375f), x));
    Vec p = splat(1.9875691500e-4f);
    p = fma(p, r, splat(1.3981999507e-3f));
    p = fma(p, r, splat(8.3334519073e-3f));
    p = fma(p, r, splat(4.1665795894e-2f));
    p = fma(p, r, splat(1.6666665459e-1f));
    p = fma(p, r, splat(5.0000001201e-1f));
    p = fma(p, r * r, r + splat(1.0f));
    const Vec half = round(n * splat(0.5f));  // two factors reach subnormals and infinity
    return p * pow2(half) * pow2(n - half);
}

// 2^x within 2 ulp for x up to 0, exactly 0 from -127 down; NaN stays NaN.
inline Vec exp2(Vec x) {
    using Words = uint32_t __attribute__((vector_size(sizeof(Vec))));
    x = max(splat(-127.0f), x);
    const Vec shifted = x + splat(12582912.0f);  // 1.5 * 2^23: the last bits are round(x)
    const Vec r = x - (shifted - splat(12582912.0f));
    Vec p = splat(1.535336188e-4f);
    p = fma(p, r, splat(1.339887440e-3f));
    p = fma(p, r, splat(9.618437358e-3f));
    p = fma(p, r, splat(5.550332471e-2f));
    p = fma(p, r, splat(2.402264791e-1f));
    p = fma(p, r, splat(6.931472029e-1f));
    p = fma(p, r, splat(1.0f));
    return p * (Vec)(((Words)shifted << 23) + 0x3F800000u);
}

// Column C of the e4m3 floats in 32-bit lanes k0 k2 k1 k3. Their bits at the places of bfloat16 are
// 2^-120 of them, which one product mends, exactly and for subnormal ones too.
template <int C>
inline Vec float8(Ints a) {
    using Halves = int16_t __attribute__((vector_size(sizeof(Vec))));
    using Words = uint32_t __attribute__((vector_size(sizeof(Vec))));
    const Halves codes = C < 2 ? (Halves)a << 8 : (Halves)a;
    const Words pairs = (Words)((codes >> 4) & static_cast<int16_t>(0x87F0));
    return (Vec)(C % 2 ? pairs & 0xFFFF0000u : pairs << 16) * splat(0x1p120f);
}

// Columns 2 P and 2 P + 1 of them as bf16 numbers, exactly: the lower half of each float is zero.
template <int P>
inline Vec float8_pair(Ints a) {
    using Words = uint32_t __attribute__((vector_size(sizeof(Vec))));
    return (Vec)((Words)float8<2 * P>(a) >> 16 | (Words)float8<2 * P + 1>(a));
}

}  // namespace LMO_ISA
}  // namespace lmo
