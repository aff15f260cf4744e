// What every instruction set's vectors share; included after one of simd_*.h.
#pragma once

#include <cstring>

namespace lmo {
namespace LMO_ISA {

constexpr int64_t kLanes = 8;

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

// The lanes of `a` that a span covers; zero in the others.
inline Vec first_lanes(Vec a, Whole) { return a; }

inline Vec first_lanes(Vec a, Part part) {
    float lanes[kLanes] = {};
    store(lanes, a, part);
    return load(lanes);
}

// Calls body(i, Whole or Part) for the vectors that cover [0, n).
template <class Body>
inline __attribute__((always_inline)) void each_vector(int64_t n, const Body& body) {
    const int64_t whole = n & ~(kLanes - 1);
    for (int64_t i = 0; i < whole; i += kLanes) body(i, Whole{});
    if (whole < n) body(whole, Part{n - whole});
}

// The sum of the lanes, in the order of `sums`.
inline float sum(Vec a) {
    float four[4];
    sums(a, a, a, a, four);
    return four[0];
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

}  // namespace LMO_ISA
}  // namespace lmo
