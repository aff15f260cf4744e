// What a product with packed weights goes through step by step: codes, scales and inputs of columns
// that share both; included per instruction set.
#pragma once

#include "packed_codes.h"

namespace lmo {
namespace LMO_ISA {

// Codes of tiles side by side.
struct Tiles {
    const uint8_t* at;
    int64_t stride;  // bytes from a tile to its neighbour; 0 where one tile is all there is
    int64_t ahead;   // bytes from what is read to what is asked for
};

// Columns that lie in one weight group and one input block.
template <class Inputs>
struct Step {
    const uint8_t* factors;  // scales and minimums of the group, or `Factors` of unpacked codes
    int64_t factor_stride;   // bytes from a tile's to its neighbour's
    Tiles codes;
    const Inputs* x;         // of the first row; the others follow
    int64_t begin, count;    // columns, from the start of the block

    int64_t half() const { return begin / kHalfColumns; }
};

template <class Codes>
using StepOf = Step<typename Codes::Inputs>;

template <class Codes>
constexpr int64_t kFactorBytes = kTileLanes * sizeof(typename Codes::Factor);

// The factors of the v-th vector of tiles that lie `stride` apart.
template <class Codes>
inline Vec load_factors(const uint8_t* from, int v, int64_t stride) {
    const uint8_t* first = from + v * kTilesPerVector * stride;
    return load_tiles(reinterpret_cast<const typename Codes::Factor*>(first), stride);
}

// Inlined with all that it calls: only then the compiler keeps arrays in registers.
#define LMO_INLINE inline __attribute__((always_inline, flatten))

// Whether unpacked codes have their factors as floats: with 16 registers they would be slower.
constexpr bool kKeepsFactors = kRegisters == 32;

// What the sums of a vector of tiles are multiplied with.
struct Factors {
    Vec scale, minimum;
};

template <class Codes>
LMO_INLINE Factors factors_of(const StepOf<Codes>& step, int v) {
    constexpr bool kKept = kKeepsFactors && !Codes::kFromMemory;
    if constexpr (kKept) return reinterpret_cast<const Factors*>(step.factors)[v];
    const Vec scale = load_factors<Codes>(step.factors, v, step.factor_stride);
    if constexpr (!Codes::kMinimums) return {scale, zero()};
    const uint8_t* minimums = step.factors + kFactorBytes<Codes>;
    return {scale, load_factors<Codes>(minimums, v, step.factor_stride)};
}

// total += the sum of codes times values of one row and step.
template <class Codes>
LMO_INLINE void add_sum(Ints sum, const Factors& factors, const typename Codes::Inputs& x,
                        int64_t half, float* total) {
    Vec joined = load(total) + to_float(sum) * (factors.scale * splat(x.scale));
    if constexpr (Codes::kMinimums) joined = joined + factors.minimum * splat(x.sum[half]);
    store(total, joined);
}

// Calls body(i, v, unit) for the i-th units of a step in V vectors of tiles; asks for later ones.
template <class Codes, int V, class Body>
LMO_INLINE void each_unit(const StepOf<Codes>& step, const Body& body) {
    const Tiles& codes = step.codes;
    const int64_t units = code_bytes<Codes>(step.count) / kUnitBytes;
    for (int64_t i = 0; i < units; ++i) {
        const uint8_t* at = codes.at + i * kUnitBytes;
        for (int t = 0; t < V * kTilesPerVector; ++t) prefetch(at + t * codes.stride + codes.ahead);
        unrolled<V>([&](auto v) { body(i, v, Codes::load(at, v, codes.stride)); });
    }
}

}  // namespace LMO_ISA
}  // namespace lmo
