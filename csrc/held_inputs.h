// The inputs of few rows as products meet them: as they are or, where two columns share a lane,
// rounded to bf16 once for all weights.
#pragma once

#include "lane_kinds.h"
#include "operations.h"
#include "scratch.h"

namespace lmo {
namespace LMO_ISA {

template <class K>
struct HeldInputs {
    const typename K::Input* at;
    int64_t stride;
};

inline HeldInputs<Singles> held_inputs(Singles, const LinearArgs& a) { return {a.x, a.x_stride}; }

inline int64_t held_bytes(Singles, int64_t, int64_t) { return 0; }

#if defined(LMO_BF16)

// Floats that a row of pairs takes the place of.
inline int64_t pair_lanes(int64_t k) {
    return (k + Pairs::kColumns - 1) / Pairs::kColumns * kLanes;
}

inline HeldInputs<Pairs> held_inputs(Pairs, const LinearArgs& a) {
    const int64_t lanes = pair_lanes(a.k);
    float* pairs = scratch(Scratch::job, a.m * lanes);
    for (int64_t row = 0; row < a.m; ++row) {
        each_step<Pairs::kColumns>(a.k, [&](int64_t column, auto span) {
            const Vec x = Pairs::input(a.x + row * a.x_stride + column, span);
            store(pairs + row * lanes + column / 2, x);
        });
    }
    return {reinterpret_cast<const Bf16*>(pairs), 2 * lanes};
}

inline int64_t held_bytes(Pairs, int64_t m, int64_t k) {
    return m * pair_lanes(k) * static_cast<int64_t>(sizeof(float));
}

#endif

}  // namespace LMO_ISA
}  // namespace lmo
