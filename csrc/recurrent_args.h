// Arguments of what recurrent layers compute: rows of several sequences, each after its own state.
#pragma once

#include <cstdint>

#include "types.h"

namespace lmo {

// The rows of a micro-batch and the slots of a pool in which the states of their sequences lie. A
// sequence whose context is its rows begins, with a state of zeros.
struct SequenceRows {
    const int32_t* query_starts;  // [sequences + 1]
    const int32_t* context_lens;  // [sequences], these rows included
    const int32_t* slots;         // [sequences]
    int64_t sequences;
};

// out[rows, groups * channels] = a causal convolution (or its silu) of each channel of x[rows, groups,
// channels] with weight[groups * channels, taps], whose last tap is the row itself, plus
// bias[groups * channels]; state[slots, taps - 1, groups * channels] are the inputs before the rows,
// afterwards those before the next.
struct ConvolutionArgs {
    const float* x;
    int64_t x_stride, group_stride;
    const void* weight;
    Dtype weight_dtype;
    const void* bias;  // may be null
    Dtype bias_dtype;
    float* state;
    int64_t slot_stride, tap_stride;
    SequenceRows rows;
    int64_t groups, channels, taps;
    float* out;
    int64_t out_stride;
    int threads;
};

constexpr int64_t kMostTaps = 8;

// The gated delta rule (see kernels/base.py) over x[rows, q of all key heads | k | v of all heads]
// and, by key head, rates and decays[rows, key_heads, heads / key_heads] before their functions;
// state[slots, heads, key_dim, value_dim], out[rows, heads, value_dim].
struct DeltaArgs {
    const float* x;
    int64_t x_stride;
    const float* rates;
    int64_t rates_stride, rates_group_stride;
    const float* decays;
    int64_t decays_stride, decays_group_stride;
    const void* decay_log;  // [heads]
    Dtype decay_log_dtype;
    const void* decay_bias;  // [heads]
    Dtype decay_bias_dtype;
    float* state;
    int64_t slot_stride;
    SequenceRows rows;
    int64_t key_heads, heads, key_dim, value_dim;
    float* out;
    int64_t out_stride;
    int threads;
};

constexpr int64_t kMostKeyDim = 256;

// The recurrence of Mamba-2 (see kernels/base.py) over x[rows, values of all heads | keys of all
// groups | queries] and steps[rows, heads] before their function; state[slots, heads, key_dim,
// value_dim], out[rows, heads, value_dim]. Heads are shared by key_heads groups.
struct ScanArgs {
    const float* x;
    int64_t x_stride;
    const float* steps;
    int64_t steps_stride;
    const void* decay_log;  // [heads]
    Dtype decay_log_dtype;
    const void* step_bias;  // [heads]
    Dtype step_bias_dtype;
    const void* skip;  // [heads]
    Dtype skip_dtype;
    float least_step, most_step;
    float* state;
    int64_t slot_stride;
    SequenceRows rows;
    int64_t key_heads, heads, key_dim, value_dim;
    float* out;
    int64_t out_stride;
    int threads;
};

}  // namespace lmo
