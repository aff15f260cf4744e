// Weights of e4m3 floats and their products with inputs as they are; included per instruction set.
//
// A result is one accumulator for each step, over ascending columns, and the scaled sum of its
// steps: the same bits whatever tile, block or thread it falls into.
#pragma once

#include "packed_step.h"

namespace lmo {
namespace LMO_ISA {

constexpr int kUnitColumns = 4;  // of a unit of eight-bit floats
constexpr int64_t kVectorFloatBytes = kBlockColumns * sizeof(Vec);

struct Float8Codes {
    using Inputs = FloatInputs;
    using Factor = float;
    static constexpr int kPairs = kUnitColumns / 2;
    static constexpr int64_t kStepBytes = kUnitBytes;
    static constexpr bool kMinimums = false;
    static constexpr bool kFromMemory = true;

    static Ints load(const uint8_t* unit, int v, int64_t stride) {
        return Int8Codes::load(unit, v, stride);
    }

    template <int C>
    static Vec column(Ints unit) {
        return float8<C>(unit);
    }
};

// The same as float32, in the cache, vector by vector.
struct UnpackedFloats : Float8Codes {
    static constexpr int64_t kStepBytes = kUnitColumns * sizeof(Vec);
    static constexpr bool kFromMemory = false;

    static const uint8_t* load(const uint8_t* unit, int v, int64_t stride) {
        return unit + v * stride;
    }

    template <int C>
    static Vec column(const uint8_t* unit) {
        return lmo::LMO_ISA::load(reinterpret_cast<const float*>(unit) + C * kLanes);
    }
};

// sums[r][v] = weights of tile v times values of row r over the columns of a step.
template <class Codes, int R, int V>
LMO_INLINE void multiply_floats(const StepOf<Codes>& step, Vec (&sums)[R][V]) {
    constexpr int64_t kStride = sizeof(FloatInputs) / sizeof(float);
    unrolled<R>([&](auto r) { unrolled<V>([&](auto v) { sums[r][v] = zero(); }); });
    const auto [first, stride, ahead] = step.codes;
    const uint8_t* at = first;
    const float* values = step.x->values + step.begin;
    const float* end = values + step.count;
    while (values < end) {
        if constexpr (Codes::kFromMemory) {
            for (int t = 0; t < V * kTilesPerVector; ++t) prefetch(at + t * stride + ahead);
        }
        unrolled<2>([&](auto u) LMO_BODY {  // units of a cache line
            decltype(Codes::load(at, 0, 0)) units[V];
            unrolled<V>([&](auto v) {
                units[v] = Codes::load(at + u * Codes::kStepBytes, v, stride);
            });
            unrolled<kUnitColumns>([&](auto c) LMO_BODY {
                Vec weights[V];
                unrolled<V>([&](auto v) { weights[v] = Codes::template column<c>(units[v]); });
                unrolled<R>([&](auto r) {
                    const Vec input = splat(values[r * kStride + u * kUnitColumns + c]);
                    unrolled<V>([&](auto v) { sums[r][v] = fma(weights[v], input, sums[r][v]); });
                });
            });
        });
        at += 2 * Codes::kStepBytes;
        values += 2 * kUnitColumns;
    }
}

// total += the scaled sum of one row and step.
template <class Codes>
LMO_INLINE void add_sum(Vec sum, const Factors& factors, const FloatInputs&, int64_t,
                        float* total) {
    store(total, load(total) + sum * factors.scale);
}

// The weights of a step as float32, V vectors of tiles in kVectorFloatBytes each.
template <class Codes, int V>
inline Tiles unpack_floats(const StepOf<Codes>& step, uint8_t* bytes) {
    each_unit<Codes, V>(step, [&](int64_t i, int v, Ints unit) {
        auto* to = reinterpret_cast<float*>(bytes + v * kVectorFloatBytes);
        unrolled<kUnitColumns>([&](auto c) LMO_BODY {
            store(to + (i * kUnitColumns + c) * kLanes, Codes::template column<c>(unit));
        });
    });
    return {bytes, kVectorFloatBytes, 0};
}

}  // namespace LMO_ISA
}  // namespace lmo
