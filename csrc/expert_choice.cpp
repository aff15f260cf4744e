// Who reads a row: a router's scores as probabilities, the best groups, the best experts in them.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "experts.h"
#include "largest.h"
#include "scratch.h"

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

// What is made of a row on the way, in the memory of the calling thread.
struct Between {
    float *shares, *ranks;        // [experts]
    float *group, *sums, *kept;  // the ranks of a group; of all groups
};

Between between(const ChoiceArgs& a) {
    const int64_t size = a.experts / a.groups;
    float* shares = scratch(Scratch::job, 2 * a.experts + size + 2 * a.groups);
    float* group = shares + 2 * a.experts;
    return {shares, shares + a.experts, group, group + size, group + size + a.groups};
}

// The sum of the `summed` largest of some ranks, which are put last.
float best_sum(float* ranks, int64_t count, int64_t summed) {
    float sum = 0.0f;
    for (int64_t i = 0; i < summed; ++i) {
        const int64_t best = largest(ranks, count);
        sum += ranks[best];
        ranks[best] = kLeast;
    }
    return sum;
}

// Puts last all ranks but those of the best groups.
void keep_groups(const ChoiceArgs& a, const Between& at) {
    const int64_t size = a.experts / a.groups;
    for (int64_t group = 0; group < a.groups; ++group) {
        std::copy_n(at.ranks + group * size, size, at.group);
        at.sums[group] = best_sum(at.group, size, a.summed);
    }
    std::fill_n(at.kept, a.groups, 0.0f);
    for (int64_t i = 0; i < a.groups_used; ++i) {
        const int64_t best = largest(at.sums, a.groups);
        at.kept[best] = 1.0f;
        at.sums[best] = NAN;
    }
    for (int64_t i = 0; i < a.experts; ++i) {
        if (at.kept[i / size] == 0.0f) at.ranks[i] = kLeast;
    }
}

void add_bias(const ChoiceArgs& a, float* ranks) {
    with_type(a.bias_dtype, [&](auto* type) {
        const auto* bias = static_cast<decltype(type)>(a.bias);
        for (int64_t i = 0; i < a.experts; ++i) ranks[i] += value(bias[i]);
    });
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
    const float whole = a.to_one ? std::max(sum + a.added_to_sum, kLeastSum) : 1.0f;
    for (int64_t i = 0; i < a.used; ++i) scales[i] = scales[i] / whole * a.scale;
}

// How much of what the experts of a row say is added, where that is given for each.
void multiply_factors(const ChoiceArgs& a, int64_t row) {
    with_type(a.factors_dtype, [&](auto* type) {
        const auto* factors = static_cast<decltype(type)>(a.factors);
        for (int64_t i = row * a.used; i < (row + 1) * a.used; ++i) {
            a.scales[i] *= value(factors[a.chosen[i]]);
        }
    });
}

void choose_of_row(const ChoiceArgs& a, int64_t row, const Between& at) {
    const float* scores = a.scores + row * a.stride;
    for (int64_t i = 0; i < a.experts; ++i) at.ranks[i] = scores[i] * a.sharpness;
    (a.sigmoids ? sigmoids : softmax)(at.ranks, at.shares, a.experts);
    // Neighbouring scores may have one share, so shares rank them only where they are added to.
    if (a.bias || a.groups_used < a.groups) std::copy_n(at.shares, a.experts, at.ranks);
    if (a.bias) add_bias(a, at.ranks);
    const bool sound = are_sound(scores, a.experts) && are_sound(at.ranks, a.experts);
    if (a.groups_used < a.groups) keep_groups(a, at);
    choose(a, at.shares, at.ranks, row);
    if (a.factors) multiply_factors(a, row);
    if (!sound) std::fill_n(a.scales + row * a.used, a.used, NAN);
}

}  // namespace

void choose_experts(const ChoiceArgs& a) {
    const Between at = between(a);
    for (int64_t row = 0; row < a.rows; ++row) choose_of_row(a, row, at);
}

}  // namespace lmo
