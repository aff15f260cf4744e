// The tile that products with packed weights are made of; included per instruction set.
//
// Codes times inputs add up exactly in integers over a step of 32 or 64 columns. The steps add
// up in float, in ascending order and without fused operations. So a result has the same bits
// whatever tile, block, thread or instruction set it is computed by.
#pragma once

#include "packed_codes.h"

namespace lmo {
namespace LMO_ISA {

// Eight sums, two units of codes, two pairs, two products, an input and a mask: the 16
// registers of AVX2. With 32 registers there are 16 sums.
constexpr int kPackedRows = kRegisters / 4;
constexpr int kPackedVectors = 2;
constexpr int kRowVectors = 4;  // of a single row: inputs are loaded and steps counted less often
constexpr int64_t kPackedTiles = kPackedVectors * kTilesPerVector;
constexpr int64_t kRowTiles = kRowVectors * kTilesPerVector;
constexpr int64_t kBlockStride = sizeof(InputBlock) / sizeof(int16_t);

// Codes of tiles side by side.
struct Tiles {
    const uint8_t* at;
    int64_t stride;  // bytes from a tile to its neighbour; 0 where one tile is all there is
    int64_t ahead;   // bytes from what is read to what is asked for
};

// Columns that lie in one weight group and one input block.
struct Step {
    const uint8_t* factors;  // scales and minimums of the group
    int64_t factor_stride;   // bytes from a tile's to its neighbour's
    Tiles codes;
    const InputBlock* x;     // of the first row; the others follow
    int64_t begin, count;    // columns, from the start of the block

    int64_t half() const { return begin / kHalfColumns; }
};

constexpr int64_t kFactorBytes = kTileLanes * sizeof(F16);

// The factors of the v-th vector of tiles that lie `stride` apart.
inline Vec load_factors(const uint8_t* from, int v, int64_t stride) {
    F16 factors[kLanes];
    for (int64_t t = 0; t < kTilesPerVector; ++t) {
        std::memcpy(factors + t * kTileLanes, from + (v * kTilesPerVector + t) * stride,
                    kFactorBytes);
    }
    return load(factors);
}

// Inlined with all that it calls: only then the compiler keeps arrays in registers.
#define LMO_INLINE inline __attribute__((always_inline, flatten))

// What the sums of a vector of tiles are multiplied with.
struct Factors {
    Vec scale, minimum;
};

template <class Codes>
LMO_INLINE Factors factors_of(const Step& step, int v) {
    const Vec scale = load_factors(step.factors, v, step.factor_stride);
    if constexpr (!Codes::kMinimums) return {scale, zero()};
    return {scale, load_factors(step.factors + kFactorBytes, v, step.factor_stride)};
}

// total += the sum of codes times values of one row and step.
template <class Codes>
LMO_INLINE void add_sum(Ints sum, const Factors& factors, const InputBlock& x, int64_t half,
                        float* total) {
    Vec joined = load(total) + to_float(sum) * (factors.scale * splat(x.scale));
    if constexpr (Codes::kMinimums) joined = joined + factors.minimum * splat(x.sum[half]);
    store(total, joined);
}

// sums[r][v] = codes of tile v times values of row r over the columns of a step.
template <class Codes, int R, int V>
LMO_INLINE void multiply(const Step& step, Ints (&sums)[R][V]) {
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
    const int16_t* values = step.x->values + step.begin;
    const int16_t* end = values + step.count;
    while (values < end) {
        if constexpr (Codes::kFromMemory) {
            for (int t = 0; t < V * kTilesPerVector; ++t) prefetch(at + t * stride + ahead);
        }
        unrolled<2>([&](auto u) {  // units of a cache line
            decltype(Codes::load(at, 0, 0)) units[V];
            unrolled<V>([&](auto v) {
                units[v] = Codes::load(at + u * Codes::kStepBytes, v, stride);
            });
            unrolled<Codes::kPairs>([&](auto p) {
                Ints pairs[V];
                unrolled<V>([&](auto v) { pairs[v] = Codes::template pair<p>(units[v]); });
                auto& sum = parts[u % kParts];
                unrolled<R>([&](auto r) {
                    const int64_t column = 2 * (u * Codes::kPairs + p);
                    const Ints input = splat_pair(values + r * kBlockStride + column);
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

// totals[R][V] += one step.
template <class Codes, int R, int V>
LMO_INLINE void add_step(const Step& step, float* totals) {
    Ints sums[R][V];
    multiply<Codes>(step, sums);
    unrolled<V>([&](auto v) {
        const Factors factors = factors_of<Codes>(step, v);
        unrolled<R>([&](auto r) {
            float* total = totals + (r * V + v) * kLanes;
            add_sum<Codes>(sums[r][v], factors, step.x[r], step.half(), total);
        });
    });
}

// Calls body(i, v, unit) for the i-th units of a step in V vectors of tiles; asks for later ones.
template <class Codes, int V, class Body>
LMO_INLINE void each_unit(const Step& step, const Body& body) {
    const Tiles& codes = step.codes;
    const int64_t units = code_bytes<Codes>(step.count) / kUnitBytes;
    for (int64_t i = 0; i < units; ++i) {
        const uint8_t* at = codes.at + i * kUnitBytes;
        for (int t = 0; t < V * kTilesPerVector; ++t) prefetch(at + t * codes.stride + codes.ahead);
        unrolled<V>([&](auto v) { body(i, v, Codes::load(at, v, codes.stride)); });
    }
}

constexpr int64_t kVectorPairBytes = kBlockColumns / 2 * kPairBytes;

// The codes of a step as pairs, V vectors of tiles in kVectorPairBytes each.
template <class Codes, int V>
inline Tiles unpack(const Step& step, uint8_t* pairs) {
    each_unit<Codes, V>(step, [&](int64_t i, int v, Ints unit) {
        uint8_t* to = pairs + v * kVectorPairBytes + i * Codes::kPairs * kPairBytes;
        unrolled<Codes::kPairs>([&](auto p) {
            store_ints(to + p * kPairBytes, Codes::template pair<p>(unit));
        });
    });
    return {pairs, kVectorPairBytes, 0};
}

}  // namespace LMO_ISA
}  // namespace lmo
