// Codes of packed weights in registers; included per instruction set.
//
// A unit is what one load brings for a tile of eight outputs. It holds pairs of neighbouring
// columns: two 16-bit numbers for each output.
#pragma once

#include "operations.h"
#include "packed_inputs.h"

namespace lmo {
namespace LMO_ISA {

constexpr int64_t kPairBytes = 32;

struct Int8Codes {
    static constexpr int kPairs = 2;  // of a unit
    static constexpr int64_t kUnitBytes = 32;
    static constexpr bool kMinimums = false;
    static constexpr bool kFromMemory = true;

    static Ints load(const uint8_t* unit) { return in_register(load_ints(unit)); }

    template <int P>
    static Ints pair(Ints unit) {
        return P == 0 ? low_bytes(unit) : high_bytes(unit);
    }
};

template <bool Minimums>
struct Int4Codes {
    static constexpr int kPairs = 4;
    static constexpr int64_t kUnitBytes = 32;
    static constexpr bool kMinimums = Minimums;
    static constexpr bool kFromMemory = true;

    static Ints load(const uint8_t* unit) { return in_register(load_ints(unit)); }

    template <int P>
    static Ints pair(Ints unit) {
        return nibbles<P>(unit);
    }
};

// Codes that were unpacked into pairs, in the cache.
template <bool Minimums>
struct UnpackedCodes {
    static constexpr int kPairs = 2;
    static constexpr int64_t kUnitBytes = kPairs * kPairBytes;
    static constexpr bool kMinimums = Minimums;
    static constexpr bool kFromMemory = false;

    static const uint8_t* load(const uint8_t* unit) { return unit; }

    template <int P>
    static Ints pair(const uint8_t* unit) {
        return load_ints(unit + P * kPairBytes);
    }
};

template <class Codes>
constexpr int64_t code_bytes(int64_t columns) {
    return columns / (2 * Codes::kPairs) * Codes::kUnitBytes;
}

// Calls body(0), ..., body(Count - 1) with compile-time numbers: arrays that they index are
// kept in registers.
template <int Count, class Body>
inline __attribute__((always_inline)) void unrolled(const Body& body) {
    if constexpr (Count > 0) {
        unrolled<Count - 1>(body);
        body(std::integral_constant<int, Count - 1>());
    }
}

}  // namespace LMO_ISA
}  // namespace lmo
