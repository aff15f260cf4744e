// Sixteen elements of a cache of floats: how they lie in vectors, and how later ones are asked for.
//
// Sixteen elements are one vector or two. Two of bf16 are the even and the odd elements, which one
// load, one shift and one mask give.
#pragma once

#include "attention_work.h"

namespace lmo {
namespace LMO_ISA {

constexpr int kParts = kSixteen / kLanes;

struct Sixteen {
    Vec at[kParts];
};

template <class T>
constexpr bool kEvenAndOdd = kParts == 2 && std::is_same_v<T, Bf16>;

template <class T>
inline Sixteen load_sixteen(const T* p) {
    Sixteen x;
    if constexpr (kEvenAndOdd<T>) {
        using Words = uint32_t __attribute__((vector_size(sizeof(Vec))));
        Words words;
        std::memcpy(&words, p, sizeof words);
        x.at[0] = (Vec)(words << 16);
        x.at[kParts - 1] = (Vec)(words & 0xFFFF0000u);
    } else {
        for (int i = 0; i < kParts; ++i) x.at[i] = load(p + i * kLanes);
    }
    return x;
}

template <class T>
inline Sixteen load_sixteen(const T* p, Whole) {
    return load_sixteen(p);
}

template <class T>
inline Sixteen load_sixteen(const T* p, Part part) {
    T elements[kSixteen] = {};
    std::memcpy(elements, p, static_cast<size_t>(part.count) * sizeof(T));
    return load_sixteen(elements);
}

// Writes sixteen in the order of their elements. A template over `Sixteens` too, because only
// vectors of eight have an interleave.
template <class T, class Sixteens>
inline void store_sixteen(float* p, const Sixteens& x) {
    if constexpr (kEvenAndOdd<T>) {
        interleave(x.at[0], x.at[kParts - 1], p);
    } else {
        for (int i = 0; i < kParts; ++i) store(p + i * kLanes, x.at[i]);
    }
}

// Asks for 16 elements of a block that is read later: at even steps for those of this step and the
// next one in a far block, at odd ones for those of this step and the one before in a near block.
// With both at every step, too many lines are on their way at a time.
template <bool Even, class T>
LMO_INLINE void ask(const T* near, const T* far, int64_t offset) {
    constexpr int64_t lines = 2 * kSixteen * sizeof(T) / kLineBytes, line = kLineBytes / sizeof(T);
    for (int64_t i = 0; i < lines; ++i) {
        if constexpr (Even) {
            prefetch_far(far + offset + i * line);
        } else {
            prefetch(near + offset - kSixteen + i * line);
        }
    }
}

// Calls body(i, is_even) for n steps, of which two make what `ask` asks for.
template <class Body>
LMO_INLINE void each_step(int64_t n, const Body& body) {
    for (int64_t i = 0; i + 2 <= n; i += 2) {
        body(i, std::true_type());
        body(i + 1, std::false_type());
    }
    if (n % 2 != 0) body(n - 1, std::true_type());
}

}  // namespace LMO_ISA
}  // namespace lmo
