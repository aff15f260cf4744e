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
// registers of AVX2.
constexpr int kPackedRows = 4;
constexpr int kPackedTiles = 2;
constexpr int64_t kBlockStride = sizeof(InputBlock) / sizeof(int16_t);

// Codes of tiles side by side.
struct Tiles {
    const uint8_t* at;
    int64_t stride;  // bytes from a tile to its neighbour
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

constexpr int64_t kFactorBytes = kLanes * sizeof(F16);

inline Vec load_factors(const uint8_t* from) {
    F16 factors[kLanes];
    std::memcpy(factors, from, sizeof factors);
    return load(factors);
}

// Inlined with all that it calls: only then the compiler keeps arrays in registers.
#define LMO_INLINE inline __attribute__((always_inline, flatten))

// sums[r][v] = codes of tile v times values of row r over the columns of a step.
template <class Codes, int R, int V>
LMO_INLINE void multiply(const Step& step, Ints (&sums)[R][V]) {
    unrolled<R>([&](auto r) {
        const Ints start = splat(step.x[r].start[step.half()]);
        unrolled<V>([&](auto v) { sums[r][v] = start; });
    });
    const auto [first, stride, ahead] = step.codes;
    const uint8_t* at = first;
    const int16_t* values = step.x->values + step.begin;
    const int16_t* end = values + step.count;
    while (values < end) {
        if constexpr (Codes::kFromMemory) {
            for (int v = 0; v < V; ++v) prefetch(at + v * stride + ahead);
        }
        unrolled<2>([&](auto u) {  // units of a cache line
            decltype(Codes::load(at)) units[V];
            unrolled<V>([&](auto v) {
                units[v] = Codes::load(at + v * stride + u * Codes::kUnitBytes);
            });
            unrolled<Codes::kPairs>([&](auto p) {
                Ints pairs[V];
                unrolled<V>([&](auto v) { pairs[v] = Codes::template pair<p>(units[v]); });
                unrolled<R>([&](auto r) {
                    const int64_t column = 2 * (u * Codes::kPairs + p);
                    const Ints input = splat_pair(values + r * kBlockStride + column);
                    if constexpr (V == 2) {
                        add_products(sums[r][0], sums[r][1], pairs[0], pairs[1], input);
                    } else {
                        add_products(sums[r][0], pairs[0], input);
                    }
                });
            });
        });
        at += 2 * Codes::kUnitBytes;
        values += 4 * Codes::kPairs;
    }
}

// totals[R][V] += one step.
template <class Codes, int R, int V>
LMO_INLINE void add_step(const Step& step, float* totals) {
    Ints sums[R][V];
    multiply<Codes>(step, sums);
    unrolled<V>([&](auto v) {
        const uint8_t* factors = step.factors + v * step.factor_stride;
        const Vec scale = load_factors(factors);
        const Vec minimum = Codes::kMinimums ? load_factors(factors + kFactorBytes) : zero();
        unrolled<R>([&](auto r) {
            const InputBlock& x = step.x[r];
            float* total = totals + (r * V + v) * kLanes;
            Vec sum = load(total) + to_float(sums[r][v]) * (scale * splat(x.scale));
            if constexpr (Codes::kMinimums) sum = sum + minimum * splat(x.sum[step.half()]);
            store(total, sum);
        });
    });
}

constexpr int64_t kTilePairBytes = kBlockColumns / 2 * kPairBytes;

// The codes of a step as pairs, V tiles of kTilePairBytes.
template <class Codes, int V>
inline Tiles unpack(const Step& step, uint8_t* pairs) {
    const Tiles& codes = step.codes;
    uint8_t* to = pairs;
    for (int64_t unit = 0; unit < code_bytes<Codes>(step.count); unit += Codes::kUnitBytes) {
        unrolled<V>([&](auto v) {
            const uint8_t* at = codes.at + v * codes.stride + unit;
            prefetch(at + codes.ahead);
            const Ints loaded = Codes::load(at);
            unrolled<Codes::kPairs>([&](auto p) {
                store_ints(to + v * kTilePairBytes + p * kPairBytes,
                           Codes::template pair<p>(loaded));
            });
        });
        to += Codes::kPairs * kPairBytes;
    }
    return {pairs, kTilePairBytes, 0};
}

}  // namespace LMO_ISA
}  // namespace lmo
