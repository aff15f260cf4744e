// Who reads a row: a router's scores as probabilities, the best groups, the best experts in them.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "experts.h"

namespace lmo {
namespace {

constexpr float kLeast = -std::numeric_limits<float>::infinity();
constexpr float kLeastSum = 1e-20f;  // of scales, so that they can be divided by it

float value(float x) { return x; }

float value(Bf16 x) {
    const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
    float wide;
    std::memcpy(&wide, &bits, sizeof wide);
    return wide;
}

float value(F16 x) {
    const int exponent = x.bits >> 10 & 31, fraction = x.bits & 1023;
    const float sign = x.bits >> 15 ? -1.0f : 1.0f;
    if (exponent == 31) return fraction ? NAN : sign * INFINITY;
    if (exponent == 0) return sign * std::ldexp(static_cast<float>(fraction), -24);
    return sign * std::ldexp(static_cast<float>(fraction + 1024), exponent - 25);
}

void sigmoids(const float* scores, float* shares, int64_t count) {
    for (int64_t i = 0; i < count; ++i) shares[i] = 1.0f / (1.0f + std::exp(-scores[i]));
}

void softmax(const float* scores, float* shares, int64_t count) {
    const float most = *std::max_element(scores, scores + count);
    float sum = 0.0f;
    for (int64_t i = 0; i < count; ++i) sum += shares[i] = std::exp(scores[i] - most);
    for (int64_t i = 0; i < count; ++i) shares[i] /= sum;
}

// The place of the largest of the values, the first of equal ones; NaN is smaller than all.
int64_t largest(const float* values, int64_t count) {
    int64_t best = 0;
    for (int64_t i = 1; i < count; ++i) {
        if (values[i] > values[best] || (values[best] != values[best] && values[i] == values[i])) {
            best = i;
        }
    }
    return best;
}

// The sum of the `summed` largest of some ranks, which are put last meanwhile.
float best_sum(std::vector<float> ranks, int64_t summed) {
    float sum = 0.0f;
    for (int64_t i = 0; i < summed; ++i) {
        const int64_t best = largest(ranks.data(), static_cast<int64_t>(ranks.size()));
        sum += ranks[best];
        ranks[best] = kLeast;
    }
    return sum;
}

// Puts last all ranks but those of the best groups.
void keep_groups(const ChoiceArgs& a, float* ranks) {
    const int64_t size = a.experts / a.groups;
    std::vector<float> sums(a.groups);
    for (int64_t group = 0; group < a.groups; ++group) {
        const float* first = ranks + group * size;
        sums[group] = best_sum({first, first + size}, a.summed);
    }
    std::vector<bool> kept(a.groups);
    for (int64_t i = 0; i < a.groups_used; ++i) {
        const int64_t best = largest(sums.data(), a.groups);
        kept[best] = true;
        sums[best] = NAN;
    }
    for (int64_t i = 0; i < a.experts; ++i) {
        if (!kept[i / size]) ranks[i] = kLeast;
    }
}

void add_bias(const ChoiceArgs& a, float* ranks) {
    with_type(a.bias_dtype, [&](auto* type) {
        const auto* bias = static_cast<decltype(type)>(a.bias);
        for (int64_t i = 0; i < a.experts; ++i) ranks[i] += value(bias[i]);
    });
}

// Whether no score and no rank of a row is NaN or infinitely high, see kernels/expert_choice.py.
bool are_sound(const float* scores, const float* ranks, int64_t count) {
    bool sound = true;
    for (int64_t i = 0; i < count; ++i) sound &= scores[i] < INFINITY && ranks[i] < INFINITY;
    return sound;
}

// The experts with the highest ranks, which are put last, by their shares.
void choose(const ChoiceArgs& a, const float* shares, float* ranks, int64_t row) {
    int64_t* chosen = a.chosen + row * a.used;
    float* scales = a.scales + row * a.used;
    float sum = 0.0f;
    for (int64_t i = 0; i < a.used; ++i) {
        chosen[i] = largest(ranks, a.experts);
        ranks[chosen[i]] = NAN;  // below those of other groups, too
        sum += scales[i] = shares[chosen[i]];
    }
    const float whole = a.to_one ? std::max(sum, kLeastSum) : 1.0f;
    for (int64_t i = 0; i < a.used; ++i) scales[i] = scales[i] / whole * a.scale;
}

}  // namespace

void choose_experts(const ChoiceArgs& a) {
    std::vector<float> shares(a.experts), ranks(a.experts);
    for (int64_t row = 0; row < a.rows; ++row) {
        const float* scores = a.scores + row * a.stride;
        (a.sigmoids ? sigmoids : softmax)(scores, shares.data(), a.experts);
        ranks = shares;
        if (a.bias) add_bias(a, ranks.data());
        const bool sound = are_sound(scores, ranks.data(), a.experts);
        if (a.groups_used < a.groups) keep_groups(a, ranks.data());
        choose(a, shares.data(), ranks.data(), row);
        if (!sound) std::fill_n(a.scales + row * a.used, a.used, NAN);
    }
}

}  // namespace lmo
