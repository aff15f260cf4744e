// Numbers of eight rows rounded to fp16: to the nearest, down or up.
#pragma once

#include "quantize_rows.h"

namespace lmo {
namespace LMO_ISA {

// Numbers as fp16 and back.
struct HalfRows {
    F16 halves[kLanes];

    explicit HalfRows(const Eight& values) {
        float lanes[kLanes] = {};
        std::memcpy(lanes, &values, sizeof values);
        store(halves, load(lanes));
    }

    Eight wide() const {
        float lanes[kLanes];
        store(lanes, load(halves));
        Eight values;
        std::memcpy(&values, lanes, sizeof values);
        return values;
    }
};

inline Eight nearest_half(const Eight& values) { return HalfRows(values).wide(); }

// The largest fp16 numbers that are not above `values`.
inline Eight half_at_most(const Eight& values) {
    HalfRows rows(values);
    const Eight nearest = rows.wide();
    for (int i = 0; i < kEightRows; ++i) {
        uint16_t& bits = rows.halves[i].bits;
        if (!(nearest[i] > values[i])) continue;
        bits = bits == 0 ? 0x8001 : static_cast<uint16_t>(bits & 0x8000 ? bits + 1 : bits - 1);
    }
    return rows.wide();
}

inline Eight half_at_least(const Eight& values) { return -half_at_most(-values); }

}  // namespace LMO_ISA
}  // namespace lmo
