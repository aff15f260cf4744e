// A mixture of experts instead of one MLP: which of them a row uses, and what they add to it.
#pragma once

#include "operations.h"

namespace lmo {

// chosen[rows, used] = the experts that rank highest, scales[rows, used] = how much of each is
// added; see kernels/expert_choice.py.
struct ChoiceArgs {
    const float* scores;  // [rows, experts]
    int64_t stride, rows, experts;
    bool sigmoids;     // of scores, else a softmax of each row
    const void* bias;  // [experts] that counts in ranks alone; may be null
    Dtype bias_dtype;
    int64_t groups, groups_used, summed;  // a group is as good as the sum of its best
    int64_t used;
    bool to_one;  // scales of a row sum to `scale`
    float scale;
    int64_t* chosen;  // rows without gaps, as scales
    float* scales;
};

void choose_experts(const ChoiceArgs& args);

// The addresses of an expert's weights, in a table of all of them; biases may be null.
enum ExpertAddress { kGate, kUp, kDown, kGateBias, kUpBias, kDownBias, kExpertAddresses };

// What the same matrix of all experts has in common.
struct ExpertMatrix {
    int bits;  // of a code where it is packed, else 0, and `dtype` and `stride` say how it lies
    Dtype dtype;
    int64_t stride;
    int64_t group;
    bool symmetric, floats;
    int input_bits;
};

// out[rows] += scales * down(activation(gate) * up) of x[rows], expert after expert.
struct ExpertArgs {
    const Operations* operations;
    const int64_t* table;  // [experts, kExpertAddresses]
    int64_t first, last;   // experts that are added now: others have their turn before or later
    const int64_t* chosen;
    const float* scales;
    int64_t rows, used;
    const float* x;  // [rows, width]
    int64_t x_stride;
    float* out;  // [rows, width]
    int64_t out_stride, width, inner;
    ExpertMatrix wide, narrow;  // gate and up [inner, width], down [width, inner]
    Dtype bias_dtype;
    bool gelu;           // in its tanh form, else silu
    float limit, slope;  // gates are cut off there and their sigmoids so much steeper
    float* scratch;      // [most_rows, 2 width + 2 inner]
    int64_t most_rows;   // of one product
    int64_t* count;      // grows by the number of experts that any row uses
    int threads;
};

void add_experts(const ExpertArgs& args);

}  // namespace lmo
