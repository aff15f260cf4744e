// Operations of recurrent layers as the Python module calls them.
#pragma once

#include <tuple>

#include "bindings_run.h"

namespace lmo::bindings {

// Query starts, context lengths and slots of sequences, and how many there are.
using SequenceList = std::tuple<Address, Address, Address, int64_t>;

inline SequenceRows rows_of(const SequenceList& list) {
    const auto& [starts, lengths, slots, count] = list;
    return {at<int32_t>(starts), at<int32_t>(lengths), at<int32_t>(slots), count};
}

using ConvolutionMember = void (*Operations::*)(const ConvolutionArgs&);

template <ConvolutionMember Member, class Target>
void convolution(Target& target, Address x, int64_t x_stride, int64_t group_stride, Address weight,
                 int weight_dtype, Address bias, int bias_dtype, Address state,
                 int64_t slot_stride, int64_t tap_stride, const SequenceList& rows, int64_t groups,
                 int64_t channels, int64_t taps, Address out, int64_t out_stride, int threads) {
    run(target, Member,
        ConvolutionArgs{at<float>(x), x_stride, group_stride, at<void>(weight),
                        dtype_of(weight_dtype), at<void>(bias), dtype_of(bias_dtype),
                        at<float>(state), slot_stride, tap_stride, rows_of(rows), groups, channels,
                        taps, at<float>(out), out_stride, threads});
}

using Heads = std::tuple<Address, int64_t, int64_t>;  // address, row stride, head stride

template <class Target>
void gated_delta(Target& target, Address x, int64_t x_stride, const Heads& rates,
                 const Heads& decays, const Vector& decay_log, const Vector& decay_bias,
                 Address state, int64_t slot_stride, const SequenceList& rows, int64_t key_heads,
                 int64_t heads, int64_t key_dim, int64_t value_dim, Address out,
                 int64_t out_stride, int threads) {
    const auto& [rates_at, rates_stride, rates_group] = rates;
    const auto& [decays_at, decays_stride, decays_group] = decays;
    const auto& [log_at, log_dtype] = decay_log;
    const auto& [bias_at, bias_dtype] = decay_bias;
    run(target, &Operations::gated_delta,
        DeltaArgs{at<float>(x), x_stride, at<float>(rates_at), rates_stride, rates_group,
                  at<float>(decays_at), decays_stride, decays_group, at<void>(log_at),
                  dtype_of(log_dtype), at<void>(bias_at), dtype_of(bias_dtype), at<float>(state),
                  slot_stride, rows_of(rows), key_heads, heads, key_dim, value_dim,
                  at<float>(out), out_stride, threads});
}

template <class Target>
void selective_scan(Target& target, Address x, int64_t x_stride, Address steps,
                    int64_t steps_stride, const Vector& decay_log, const Vector& step_bias,
                    const Vector& skip, float least_step, float most_step, Address state,
                    int64_t slot_stride, const SequenceList& rows, int64_t key_heads,
                    int64_t heads, int64_t key_dim, int64_t value_dim, Address out,
                    int64_t out_stride, int threads) {
    const auto& [log_at, log_dtype] = decay_log;
    const auto& [bias_at, bias_dtype] = step_bias;
    const auto& [skip_at, skip_dtype] = skip;
    run(target, &Operations::selective_scan,
        ScanArgs{at<float>(x), x_stride, at<float>(steps), steps_stride, at<void>(log_at),
                 dtype_of(log_dtype), at<void>(bias_at), dtype_of(bias_dtype), at<void>(skip_at),
                 dtype_of(skip_dtype), least_step, most_step, at<float>(state), slot_stride,
                 rows_of(rows), key_heads, heads, key_dim, value_dim, at<float>(out), out_stride,
                 threads});
}

}  // namespace lmo::bindings
