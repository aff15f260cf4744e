// The order in which sum() joins lanes, as places: the sum of places 2 i and 2 i + 1 joins that of
// the next two, and so on. ((0+2)+(1+3)) + ((4+6)+(5+7)), of halves that were added before where
// there are sixteen.
#pragma once

#include <cstdint>

namespace lmo {
namespace LMO_ISA {

constexpr int kLaneLevels = kLanes == 16 ? 4 : 3;  // of joining
static_assert(kLanes == 1 << kLaneLevels);

// The middle bits of a number below eight: 0 2 1 3 4 6 5 7.
constexpr int64_t crossed(int64_t i) { return (i & 4) | (i & 2) >> 1 | (i & 1) << 1; }

// The place of a lane.
constexpr int64_t place_of(int64_t lane) {
    return kLanes == 16 ? crossed(lane % 8) * 2 + lane / 8 : crossed(lane);
}

// How many of the sums that wait are joined by that of a place.
constexpr int joins_at(int64_t place) {
    int joins = 0;
    while (place >> joins & 1) ++joins;
    return joins;
}

}  // namespace LMO_ISA
}  // namespace lmo
