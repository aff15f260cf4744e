// What mixtures do to whole rows beside products: weigh them, and begin a sum.
#include <algorithm>
#include <cmath>

#include "experts.h"
#include "few_rows.h"

namespace lmo {

void weigh_rows(const GateArgs& a) {
    each_of(a.rows, a.threads, [&](int64_t i) {
        const float share = 1.0f / (1.0f + std::exp(-a.gate[i * a.gate_stride]));
        const float* up = a.up + i * a.up_stride;
        float* out = a.out + i * a.out_stride;
        for (int64_t j = 0; j < a.width; ++j) out[j] = up[j] * share;
    });
}

void clear_rows(const GateArgs& a) {
    each_of(a.rows, a.threads,
            [&](int64_t i) { std::fill_n(a.out + i * a.out_stride, a.width, 0.0f); });
}

}  // namespace lmo
