// Single values of vectors of any type, and the functions that turn them into decays and steps.
#pragma once

#include <cmath>

#include "elementwise_impl.h"

namespace lmo {
namespace LMO_ISA {

template <class T>
inline float value_at(const T* values, int64_t index) {
    return first(load(values + index, Part{1}));
}

inline float value_at(const void* values, Dtype dtype, int64_t index) {
    float value = 0.0f;
    with_type(dtype, [&](auto* type) {
        value = value_at(static_cast<decltype(type)>(values), index);
    });
    return value;
}

// log(1 + e^x)
inline float softplus(float x) { return x > 20.0f ? x : std::log1p(std::exp(x)); }

}  // namespace LMO_ISA
}  // namespace lmo
