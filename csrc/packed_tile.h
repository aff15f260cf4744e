// The tile that products with packed weights are made of; included per instruction set.
//
// Whole codes times inputs add up exactly in integers over a step of 32 or 64 columns. The steps add
// up in float, in ascending order and without fused operations. So a result has the same bits
// whatever tile, block, thread or instruction set it is computed by; one of floats whatever tile,
// block or thread.
#pragma once

#include "packed_bytes.h"
#include "packed_floats.h"
#if defined(LMO_VNNI)
#include "packed_split.h"
#endif

namespace lmo {
namespace LMO_ISA {

// Eight sums, two units of codes, two pairs, two products, an input and a mask: the 16
// registers of AVX2. With 32 registers there are 16 sums.
constexpr int kPackedRows = kRegisters / 4;
constexpr int kPackedVectors = 2;
constexpr int kFloatRows = kRegisters / 8 * 3;  // of unpacked floats: no unit, pair or product
constexpr int kRowVectors = 4;  // of a single row: inputs are loaded and steps counted less often
constexpr int64_t kPackedTiles = kPackedVectors * kTilesPerVector;
constexpr int64_t kRowTiles = kRowVectors * kTilesPerVector;

// sums[r][v] = codes of tile v times values of row r over the columns of a step.
template <class Codes, int R, int V>
LMO_INLINE void multiply_pairs(const StepOf<Codes>& step, Ints (&sums)[R][V]) {
    constexpr int kParts = R * V < kProductChains ? 2 : 1;  // of a sum, by turns
    Ints parts[kParts][R][V];
    unrolled<R>([&](auto r) {
        const Ints start = splat(step.x[r].start[step.half()]);
        unrolled<V>([&](auto v) {
            parts[kParts - 1][r][v] = splat(0);
            parts[0][r][v] = start;
        });
    });
    const auto [first, stride, ahead] = step.codes;
    const uint8_t* at = first;
    constexpr int64_t kStride = sizeof(PairInputs) / sizeof(int16_t);
    const int16_t* values = step.x->values + step.begin;
    const int16_t* end = values + step.count;
    while (values < end) {
        if constexpr (Codes::kFromMemory) {
            for (int t = 0; t < V * kTilesPerVector; ++t) prefetch(at + t * stride + ahead);
        }
        unrolled<2>([&](auto u) LMO_BODY {  // units of a cache line
            decltype(Codes::load(at, 0, 0)) units[V];
            unrolled<V>([&](auto v) {
                units[v] = Codes::load(at + u * Codes::kStepBytes, v, stride);
            });
            unrolled<Codes::kPairs>([&](auto p) LMO_BODY {
                Ints pairs[V];
                unrolled<V>([&](auto v) { pairs[v] = Codes::template pair<p>(units[v]); });
                auto& sum = parts[u % kParts];
                unrolled<R>([&](auto r) {
                    const int64_t column = 2 * (u * Codes::kPairs + p);
                    const Ints input = splat_pair(values + r * kStride + column);
                    unrolled<V / 2>([&](auto i) {
                        add_products(sum[r][2 * i], sum[r][2 * i + 1], pairs[2 * i],
                                     pairs[2 * i + 1], input);
                    });
                    if constexpr (V % 2 == 1) add_products(sum[r][V - 1], pairs[V - 1], input);
                });
            });
        });
        at += 2 * Codes::kStepBytes;
        values += 4 * Codes::kPairs;
    }
    unrolled<R>([&](auto r) {
        unrolled<V>([&](auto v) {
            sums[r][v] = parts[0][r][v];
            if constexpr (kParts == 2) sums[r][v] = add(sums[r][v], parts[1][r][v]);
        });
    });
}

// The same with whatever inputs the codes meet.
template <class Codes, int R, int V>
LMO_INLINE void multiply(const StepOf<Codes>& step, Ints (&sums)[R][V]) {
#if defined(LMO_VNNI)
    if constexpr (kSplit<Codes>) return multiply_split<Codes>(step, sums);
#endif
    if constexpr (kByteInputs<Codes>) {
        multiply_bytes<Codes>(step, sums);
    } else if constexpr (!kSplit<Codes>) {
        multiply_pairs<Codes>(step, sums);
    }
}

// totals[R][V] += one step.
template <class Codes, int R, int V>
LMO_INLINE void add_step(const StepOf<Codes>& step, float* totals) {
    const auto add_all = [&](const auto& sums) {
        unrolled<V>([&](auto v) {
            const Factors factors = factors_of<Codes>(step, v);
            unrolled<R>([&](auto r) {
                float* total = totals + (r * V + v) * kLanes;
                add_sum<Codes>(sums[r][v], factors, step.x[r], step.half(), total);
            });
        });
    };
    if constexpr (kFloatInputs<Codes>) {
        Vec sums[R][V];
        multiply_floats<Codes>(step, sums);
        add_all(sums);
    } else {
        Ints sums[R][V];
        multiply<Codes>(step, sums);
        add_all(sums);
    }
}

constexpr int64_t kVectorPairBytes = kBlockColumns / 2 * kPairBytes;

// The codes of a step as pairs, V vectors of tiles in kVectorPairBytes each.
template <class Codes, int V>
inline Tiles unpack_pairs(const StepOf<Codes>& step, uint8_t* pairs) {
    each_unit<Codes, V>(step, [&](int64_t i, int v, Ints unit) {
        uint8_t* to = pairs + v * kVectorPairBytes + i * Codes::kPairs * kPairBytes;
        unrolled<Codes::kPairs>([&](auto p) LMO_BODY {
            store_ints(to + p * kPairBytes, Codes::template pair<p>(unit));
        });
    });
    return {pairs, kVectorPairBytes, 0};
}

template <class Codes>
using UnpackedWhole = std::conditional_t<kByteInputs<Codes>, UnpackedBytes<Codes>,
                                         UnpackedCodes<Codes::kMinimums, typename Codes::Factor>>;
template <class Codes>
using Unpacked =
    std::conditional_t<kFloatInputs<Codes>, UnpackedFloats, UnpackedWhole<Codes>>;

// Bytes that a vector of tiles takes as `Unpacked`, at most, and rows that meet them together.
template <class Codes>
constexpr int64_t kUnpackedBytes = kFloatInputs<Codes> ? kVectorFloatBytes : kVectorPairBytes;
template <class Codes>
constexpr int kUnpackedRows = kFloatInputs<Codes> ? kFloatRows : kPackedRows;

// The codes of a step as `Unpacked`, V vectors of tiles.
template <class Codes, int V>
inline Tiles unpack(const StepOf<Codes>& step, uint8_t* bytes) {
    if constexpr (kFloatInputs<Codes>) {
        return unpack_floats<Codes, V>(step, bytes);
    } else if constexpr (kByteInputs<Codes>) {
        return unpack_quads<Codes, V>(step, bytes);
    } else {
        return unpack_pairs<Codes, V>(step, bytes);
    }
}

}  // namespace LMO_ISA
}  // namespace lmo
