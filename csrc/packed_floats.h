// Weights of e4m3 floats and their products with inputs that are floats, too, or bf16 numbers where
// two columns share a lane (lane_kinds.h); included per instruction set.
//
// A result is one accumulator for each step, over ascending columns, and the scaled sum of its
// steps: the same bits whatever tile, block or thread it falls into.
#pragma once

#include "lane_kinds.h"
#include "packed_step.h"

namespace lmo {
namespace LMO_ISA {

constexpr int kUnitColumns = 4;  // of a unit of eight-bit floats
constexpr int kUnitVectors = kUnitColumns / Float8Kind::kTogether;  // that a unit becomes
constexpr int64_t kVectorFloatBytes = kBlockColumns / Float8Kind::kTogether * sizeof(Vec);

struct Float8Codes {
    using Inputs = PlainInputs<Float8Kind::Input>;
    using Factor = float;
    static constexpr int kPairs = kUnitColumns / 2;
    static constexpr int64_t kStepBytes = kUnitBytes;
    static constexpr bool kMinimums = false;
    static constexpr bool kFromMemory = true;

    static Ints load(const uint8_t* unit, int v, int64_t stride) {
        return Int8Codes::load(unit, v, stride);
    }

    // The I-th of the vectors that a unit becomes.
    template <int I>
    static Vec vector(Ints unit) {
        if constexpr (Float8Kind::kTogether == 2) return float8_pair<I>(unit);
        return float8<I>(unit);
    }
};

// The same converted, in the cache, vector by vector.
struct UnpackedFloats : Float8Codes {
    static constexpr int64_t kStepBytes = kUnitVectors * sizeof(Vec);
    static constexpr bool kFromMemory = false;

    static const uint8_t* load(const uint8_t* unit, int v, int64_t stride) {
        return unit + v * stride;
    }

    template <int I>
    static Vec vector(const uint8_t* unit) {
        return lmo::LMO_ISA::load(reinterpret_cast<const float*>(unit) + I * kLanes);
    }
};

// sums[r][v] = weights of tile v times values of row r over the columns of a step.
template <class Codes, int R, int V>
LMO_INLINE void multiply_floats(const StepOf<Codes>& step, Vec (&sums)[R][V]) {
    constexpr int64_t kStride = kBlockColumns;
    unrolled<R>([&](auto r) { unrolled<V>([&](auto v) { sums[r][v] = zero(); }); });
    const auto [first, stride, ahead] = step.codes;
    const uint8_t* at = first;
    const auto* values = step.x->values + step.begin;
    const auto* end = values + step.count;
    while (values < end) {
        if constexpr (Codes::kFromMemory) {
            for (int t = 0; t < V * kTilesPerVector; ++t) prefetch(at + t * stride + ahead);
        }
        unrolled<2>([&](auto u) LMO_BODY {  // units of a cache line
            decltype(Codes::load(at, 0, 0)) units[V];
            unrolled<V>([&](auto v) {
                units[v] = Codes::load(at + u * Codes::kStepBytes, v, stride);
            });
            unrolled<kUnitVectors>([&](auto i) LMO_BODY {
                Vec weights[V];
                unrolled<V>([&](auto v) { weights[v] = Codes::template vector<i>(units[v]); });
                unrolled<R>([&](auto r) {
                    const int64_t column = u * kUnitColumns + i * Float8Kind::kTogether;
                    const Vec input = Float8Kind::everywhere(values + r * kStride + column);
                    unrolled<V>([&](auto v) {
                        sums[r][v] = Float8Kind::add(weights[v], input, sums[r][v]);
                    });
                });
            });
        });
        at += 2 * Codes::kStepBytes;
        values += 2 * kUnitColumns;
    }
}

// total += the scaled sum of one row and step.
template <class Codes>
LMO_INLINE void add_sum(Vec sum, const Factors& factors, const typename Codes::Inputs&, int64_t,
                        float* total) {
    store(total, load(total) + sum * factors.scale);
}

// The weights of a step as they are multiplied, V vectors of tiles in kVectorFloatBytes each.
template <class Codes, int V>
inline Tiles unpack_floats(const StepOf<Codes>& step, uint8_t* bytes) {
    each_unit<Codes, V>(step, [&](int64_t i, int v, Ints unit) {
        auto* to = reinterpret_cast<float*>(bytes + v * kVectorFloatBytes);
        unrolled<kUnitVectors>([&](auto part) LMO_BODY {
            store(to + (i * kUnitVectors + part) * kLanes, Codes::template vector<part>(unit));
        });
    });
    return {bytes, kVectorFloatBytes, 0};
}

}  // namespace LMO_ISA
}  // namespace lmo
