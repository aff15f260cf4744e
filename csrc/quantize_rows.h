// Eight rows of weights side by side as they are rounded: one number for each row in a vector, and
// sums over columns in the one order that quant/sums.py has, too.
#pragma once

#include "operations.h"

namespace lmo {
namespace LMO_ISA {

constexpr int kEightRows = 8;
constexpr int64_t kSumLanes = 16;  // partial sums of a row: of every 16th column
constexpr int64_t kSumVectors = kSumLanes / kLanes;

using Eight = float __attribute__((vector_size(32)));  // a number for each row
using EightBits = int32_t __attribute__((vector_size(32)));

inline Eight eight(float x) { return Eight{x, x, x, x, x, x, x, x}; }

inline Eight at_least(Eight a, float least) {
    for (int i = 0; i < kEightRows; ++i) a[i] = std::max(a[i], least);
    return a;
}

inline Eight larger(Eight a, Eight b) {
    for (int i = 0; i < kEightRows; ++i) a[i] = std::max(a[i], b[i]);
    return a;
}

// Row by row `yes` where a bit of `which` is set.
inline Eight choose(EightBits which, Eight yes, Eight no) {
    return (Eight)((which & (EightBits)yes) | (~which & (EightBits)no));
}

// The values of eight rows, one behind the other; columns are a multiple of 32.
struct TileRows {
    const float* values;
    int64_t columns;

    const float* row(int i) const { return values + i * columns; }
};

// Sixteen partial sums of one row.
struct RowSum {
    Vec at[kSumVectors];

    RowSum() {
        for (Vec& lanes : at) lanes = zero();
    }

    float total() const { return sum(folded()); }

    // What `sum` takes: it adds the halves of longer vectors itself.
    Vec folded() const {
        if constexpr (kSumVectors == 1) return at[0];
        return at[0] + at[kSumVectors - 1];
    }
};

// Calls body(v, column) for the vectors of a row, the v-th of each sixteen columns.
template <class Body>
inline __attribute__((always_inline)) void each_sixteen(int64_t columns, const Body& body) {
    for (int64_t column = 0; column < columns; column += kSumLanes) {
        for (int64_t v = 0; v < kSumVectors; ++v) body(v, column + v * kLanes);
    }
}

}  // namespace LMO_ISA
}  // namespace lmo
