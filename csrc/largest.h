// The best of some values, and whether it can be told.
#pragma once

#include <cmath>
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

// Whether no value is NaN or infinitely high, see kernels/expert_choice.py.
inline bool are_sound(const float* values, int64_t count) {
    bool sound = true;
    for (int64_t i = 0; i < count; ++i) sound &= values[i] < INFINITY;
    return sound;
}

}  // namespace lmo
