// Integer codes of packed weights in registers; included per instruction set.
//
// A tile is eight outputs in memory, whatever the width of a vector; a unit is 32 bytes of it. It
// holds pairs of neighbouring columns: two 16-bit numbers for each output. Wider vectors take the
// units of neighbouring tiles; where there is only one tile, they take it twice.
#pragma once

#include <type_traits>

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
    using Inputs = PairInputs;
    using Factor = F16;
    static constexpr int kPairs = 2;  // of a unit
    static constexpr int64_t kStepBytes = kUnitBytes;  // from a unit of a tile to the next one
    static constexpr bool kMinimums = false;
    static constexpr bool kFromMemory = true;
    static constexpr int kZero = 0;  // the number that stands for zero

    // The units of the v-th vector of tiles that lie `stride` apart.
    static Ints load(const uint8_t* unit, int v, int64_t stride) {
        return in_register(load_tiles(unit + v * kTilesPerVector * stride, stride));
    }

    template <int P>
    static Ints pair(Ints unit) {
        return P == 0 ? low_bytes(unit) : high_bytes(unit);
    }

    static void put(int16_t* to, Vec rounded) { store(to, rounded); }
};

template <bool Minimums>
struct Int4Codes {
    using Inputs = PairInputs;
    using Factor = F16;
    static constexpr int kPairs = 4;
    static constexpr int64_t kStepBytes = kUnitBytes;
    static constexpr bool kMinimums = Minimums;
    static constexpr bool kFromMemory = true;
    static constexpr int kZero = Minimums ? 0 : 8;

    static Ints load(const uint8_t* unit, int v, int64_t stride) {
        return Int8Codes::load(unit, v, stride);
    }

    template <int P>
    static Ints pair(Ints unit) {
        return nibbles<P>(unit);
    }

    // Four columns, a byte for each, as unsigned numbers.
    template <int Q>
    static Ints quad(Ints unit) {
        return Q == 0 ? low_nibbles(unit) : high_nibbles(unit);
    }

    static void put(int16_t* to, Vec rounded) { store(to, rounded); }
};

// Floats of four bits (e2m1) as twice their value, a whole number up to 12, plus 12: the scale of
// a group, a power of two, is halved where it is loaded.
struct Float4Codes : Int4Codes<false> {
    using Factor = Power;
    static constexpr int kZero = 12;

    template <int P>
    static Ints pair(Ints unit) {
        return unsigned_bytes<P / 2>(quad<P % 2>(unit));
    }

    template <int Q>
    static Ints quad(Ints unit) {
        return float4_bytes(Int4Codes::quad<Q>(unit));
    }
};

// Codes that were unpacked into pairs, in the cache, vector by vector.
template <bool Minimums, class CodeFactor>
struct UnpackedCodes {
    using Inputs = PairInputs;
    using Factor = CodeFactor;
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

// Codes that meet inputs of 8 bits.
template <bool Minimums>
struct ByteInt4Codes : Int4Codes<Minimums> {
    using Inputs = ByteInputs;
    static constexpr int kQuads = 2;  // of a unit

    template <int Q>
    static Ints signed_quad(Ints unit) {
        return Int4Codes<Minimums>::template quad<Q>(unit);
    }

    static void put(int8_t* to, Vec rounded) {
        store_bytes(reinterpret_cast<uint8_t*>(to), rounded);
    }
};

#if defined(LMO_VNNI)

// Only where products of bytes are exact: elsewhere two of a full range exceed their 16 bits.
struct ByteInt8Codes : Int8Codes {
    using Inputs = ByteInputs;
    static constexpr int kQuads = 1;
    static constexpr int kZero = 128;

    template <int Q>
    static Ints quad(Ints unit) {
        return unit ^ splat(static_cast<int32_t>(0x80808080));
    }

    template <int Q>
    static Ints signed_quad(Ints unit) {
        return unit;
    }

    static void put(int8_t* to, Vec rounded) {
        store_quads(reinterpret_cast<uint8_t*>(to), rounded);
    }
};

// Codes that meet inputs of 16 bits as two bytes: those are products of bytes, too.
template <class Codes>
struct Split {};
template <bool Minimums>
struct Split<Int4Codes<Minimums>> : ByteInt4Codes<Minimums> {
    using Inputs = PairInputs;
};
template <>
struct Split<Int8Codes> : ByteInt8Codes {
    using Inputs = PairInputs;
};
template <>
struct Split<Float4Codes> : Float4Codes {
    static constexpr int kQuads = 2;

    template <int Q>
    static Ints signed_quad(Ints unit) {
        return quad<Q>(unit);
    }
};

#endif

template <class Codes>
constexpr bool kSplit = false;
#if defined(LMO_VNNI)
template <class Codes>
constexpr bool kSplit<Split<Codes>> = true;
#endif

// The bytes of codes that were unpacked into quads, in the cache, vector by vector.
template <class Codes>
struct UnpackedBytes {
    using Inputs = ByteInputs;
    using Factor = typename Codes::Factor;
    static constexpr int kQuads = 1;
    static constexpr int64_t kStepBytes = kPairBytes;
    static constexpr bool kMinimums = Codes::kMinimums;
    static constexpr bool kFromMemory = false;
    static constexpr int kZero = Codes::kZero;

    static const uint8_t* load(const uint8_t* unit, int v, int64_t stride) {
        return unit + v * stride;
    }

    template <int Q>
    static Ints quad(const uint8_t* unit) {
        return load_ints(unit);
    }
};

template <class Codes>
constexpr bool kByteInputs = std::is_same_v<typename Codes::Inputs, ByteInputs>;
template <class Codes>
constexpr bool kPairInputs = std::is_same_v<typename Codes::Inputs, PairInputs>;
template <class Codes>
constexpr bool kFloatInputs = std::is_same_v<typename Codes::Inputs, FloatInputs> ||
                              std::is_same_v<typename Codes::Inputs, HalfInputs>;

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
