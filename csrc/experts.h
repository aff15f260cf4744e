// A mixture of experts instead of one MLP: which of them a row uses, and what they add to it.
#pragma once

#include "operations.h"

namespace lmo {

// chosen[rows, used] = the experts that rank highest, scales[rows, used] = how much of each is
// added; see kernels/expert_choice.py of all that says how.
struct ChoiceArgs {
    const float* scores;  // [rows, experts]
    int64_t stride, rows, experts;
    float sharpness;   // scores are multiplied by it
    bool sigmoids;     // of scores, else a softmax of each row
    const void* bias;  // [experts] that counts in ranks alone; may be null
    Dtype bias_dtype;
    const void* factors;  // [experts] of scales, in the end; may be null
    Dtype factors_dtype;
    int64_t groups, groups_used, summed;  // a group is as good as the sum of its best
    int64_t used;
    bool to_one;  // scales of a row sum to `scale`, nearly so where something is added to the sum
    float added_to_sum, scale;
    int64_t* chosen;  // rows without gaps, as scales
    float* scales;
};

void choose_experts(const ChoiceArgs& args);

// The same where each expert that is chosen is weighed among those close to it which are left.
struct CloseArgs {
    const float* scores;  // [rows, experts]
    int64_t stride, rows, experts;
    float margin;
    int64_t used;
    int64_t* chosen;
    float* scales;
};

void choose_close(const CloseArgs& args);

// out[rows, width] = up * sigmoid(gate[rows])
void weigh_rows(const GateArgs& args);

// out[rows, width] = 0
void clear_rows(const GateArgs& args);

// The addresses of an expert's weights, in a table of all of them; biases may be null, and gates
// where the activation has none.
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

constexpr int64_t kUseFloats = 2;  // that a place among the choices takes

enum class Activation { silu, gelu_tanh, relu2 };  // the last one squares `up` above zero

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
    Activation activation;
    float limit, slope;  // gates are cut off there and their sigmoids so much steeper
    bool scales_inputs;  // instead of what is added
    float* scratch;      // [most_rows, 2 width + 2 inner + kUseFloats], at 8 bytes
    int64_t most_rows;   // of one product
    int64_t* count;      // grows by the number of experts that any row uses
    int threads;
};

void add_experts(const ExpertArgs& args);

}  // namespace lmo
