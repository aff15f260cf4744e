// Codes of packed weights in registers; included per instruction set.
//
// A tile is eight outputs in memory, whatever the width of a vector; a unit is 32 bytes of it. It
// holds pairs of neighbouring columns: two 16-bit numbers for each output. Wider vectors take the
// units of neighbouring tiles; where there is only one tile, they take it twice.
#pragma once

#include "operations.h"
#include "packed_inputs.h"

namespace lmo {
namespace LMO_ISA {

constexpr int64_t kTileLanes = 8;
constexpr int64_t kTilesPerVector = kLanes / kTileLanes;
constexpr int64_t kUnitBytes = 32;
constexpr int64_t kPairBytes = sizeof(Ints);
constexpr int64_t kLineBytes = 64;

struct Int8Codes {
    static constexpr int kPairs = 2;  // of a unit
    static constexpr int64_t kStepBytes = kUnitBytes;  // from a unit of a tile to the next one
    static constexpr bool kMinimums = false;
    static constexpr bool kFromMemory = true;

    // The units of the v-th vector of tiles that lie `stride` apart.
    static Ints load(const uint8_t* unit, int v, int64_t stride) {
        return in_register(load_tiles(unit + v * kTilesPerVector * stride, stride));
    }

    template <int P>
    static Ints pair(Ints unit) {
        return P == 0 ? low_bytes(unit) : high_bytes(unit);
    }
};

template <bool Minimums>
struct Int4Codes {
    static constexpr int kPairs = 4;
    static constexpr int64_t kStepBytes = kUnitBytes;
    static constexpr bool kMinimums = Minimums;
    static constexpr bool kFromMemory = true;

    static Ints load(const uint8_t* unit, int v, int64_t stride) {
        return Int8Codes::load(unit, v, stride);
    }

    template <int P>
    static Ints pair(Ints unit) {
        return nibbles<P>(unit);
    }
};

// Codes that were unpacked into pairs, in the cache, vector by vector.
template <bool Minimums>
struct UnpackedCodes {
    static constexpr int kPairs = 2;
    static constexpr int64_t kStepBytes = kPairs * kPairBytes;
    static constexpr bool kMinimums = Minimums;
    static constexpr bool kFromMemory = false;

    static const uint8_t* load(const uint8_t* unit, int v, int64_t stride) {
        return unit + v * stride;
    }

    template <int P>
    static Ints pair(const uint8_t* unit) {
        return load_ints(unit + P * kPairBytes);
    }
};

template <class Codes>
constexpr int64_t code_bytes(int64_t columns) {
    return columns / (2 * Codes::kPairs) * Codes::kStepBytes;
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
