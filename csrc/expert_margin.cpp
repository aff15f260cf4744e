// Who reads a row where experts are chosen one by one, each among those close to it (SparseMixer).
#include <algorithm>
#include <cmath>

#include "experts.h"
#include "largest.h"
#include "scratch.h"

namespace lmo {
namespace {

// The best of those left, which is put last, and its share among those of them close to it.
void choose_next(const CloseArgs& a, const float* scores, float* left, int64_t* chosen,
                 float* scale) {
    *chosen = largest(left, a.experts);
    const float best = left[*chosen];
    float sum = 0.0f;
    for (int64_t i = 0; i < a.experts; ++i) {
        const float distance = (best - scores[i]) / std::max(std::fabs(scores[i]), best);
        const bool far = distance > a.margin || left[i] != left[i];
        sum += far && i != *chosen ? 0.0f : std::exp(left[i] - best);
    }
    *scale = 1.0f / sum;
    left[*chosen] = NAN;
}

}  // namespace

void choose_close(const CloseArgs& a) {
    float* left = scratch(Scratch::job, a.experts);
    for (int64_t row = 0; row < a.rows; ++row) {
        const float* scores = a.scores + row * a.stride;
        std::copy_n(scores, a.experts, left);
        for (int64_t i = 0; i < a.used; ++i) {
            const int64_t at = row * a.used + i;
            choose_next(a, scores, left, a.chosen + at, a.scales + at);
        }
        if (!are_sound(scores, a.experts)) std::fill_n(a.scales + row * a.used, a.used, NAN);
    }
}

}  // namespace lmo
