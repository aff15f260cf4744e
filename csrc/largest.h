// The best of some values.
#pragma once

#include <cstdint>

namespace lmo {

// The place of the largest of the values, the first of equal ones; NaN is smaller than all.
inline int64_t largest(const float* values, int64_t count) {
    int64_t best = 0;
    for (int64_t i = 1; i < count; ++i) {
        if (values[i] > values[best] || (values[best] != values[best] && values[i] == values[i])) {
            best = i;
        }
    }
    return best;
}

}  // namespace lmo
