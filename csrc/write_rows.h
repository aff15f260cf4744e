// Finished sums of neighbouring results, as they are written.
#pragma once

#include <algorithm>

#include "operations.h"

namespace lmo {
namespace LMO_ISA {

struct Rows {
    int64_t first, count;
};

// out[rows, n : n + count] (+)= totals [rows][V vectors] (+ bias)
template <int V, class Args>
void write_rows(const Args& a, Rows rows, int64_t n, int64_t count, const float* totals) {
    each_vector(count, [&](int64_t i, auto span) {
        Vec bias = zero();
        if (a.bias) {
            with_type(a.bias_dtype, [&](auto* type) {
                bias = load(static_cast<decltype(type)>(a.bias) + n + i, span);
            });
        }
        for (int64_t row = 0; row < rows.count; ++row) {
            float* out = a.out + (rows.first + row) * a.out_stride + n + i;
            Vec value = load(totals + row * V * kLanes + i);
            if (a.bias) value = value + bias;
            if (a.accumulate) value = load(out, span) + value;
            store(out, value, span);
        }
    });
}

}  // namespace LMO_ISA
}  // namespace lmo
