// The convolution of recurrent layers, over a row and the few before it. Rows of a sequence follow one
// another, so no result depends on chunks or batches.
#pragma once

#include "elementwise_impl.h"
#include "recurrent_args.h"

namespace lmo {
namespace LMO_ISA {

constexpr int64_t kConvolved = 64;  // channels that one thread takes at a time

// The weights of some channels by tap, and their biases, as floats.
struct Taps {
    float at[kMostTaps][kConvolved];
    float bias[kConvolved];
};

template <class W>
inline void load_taps(const W* weight, int64_t channels, int64_t taps, Taps& found) {
    float flat[kConvolved * kMostTaps];
    each_vector(channels * taps, [&](int64_t i, auto span) {
        store(flat + i, load(weight + i, span), span);
    });
    for (int64_t channel = 0; channel < channels; ++channel) {
        for (int64_t tap = 0; tap < taps; ++tap) {
            found.at[tap][channel] = flat[channel * taps + tap];
        }
    }
}

// Zeros where there are none.
inline void load_biases(const ConvolutionArgs& a, int64_t channel, int64_t channels, Taps& found) {
    std::fill_n(found.bias, kConvolved, 0.0f);
    if (!a.bias) return;
    with_type(a.bias_dtype, [&](auto* type) {
        const auto* bias = static_cast<decltype(type)>(a.bias) + channel;
        each_vector(channels, [&](int64_t i, auto span) {
            store(found.bias + i, load(bias + i, span), span);
        });
    });
}

// Some channels of one sequence; x, state and out begin at the first of them.
template <class Finish>
void convolve(const ConvolutionArgs& a, const Taps& taps, int64_t channels, int64_t count,
              const float* x, float* state, float* out, const Finish& finish) {
    const int64_t before = a.taps - 1;
    const auto input = [&](int64_t row) {  // rows from -before on
        return row < 0 ? state + (before + row) * a.tap_stride : x + row * a.x_stride;
    };
    for (int64_t row = 0; row < count; ++row) {
        const float* inputs[kMostTaps];
        for (int64_t tap = 0; tap < a.taps; ++tap) inputs[tap] = input(row - before + tap);
        each_vector(channels, [&](int64_t i, auto span) {
            Vec sum = load(taps.bias + i, span);
            for (int64_t tap = 0; tap < a.taps; ++tap) {
                sum = fma(load(taps.at[tap] + i, span), load(inputs[tap] + i, span), sum);
            }
            store(out + row * a.out_stride + i, finish(sum), span);
        });
    }
    for (int64_t tap = 0; tap < before; ++tap) {  // never from a place that has been written
        std::memmove(state + tap * a.tap_stride, input(count - before + tap),
                     static_cast<size_t>(channels) * sizeof(float));
    }
}

template <class Finish>
void convolve_all(const ConvolutionArgs& a, int64_t group, int64_t first, const Finish& finish) {
    const int64_t channels = std::min(kConvolved, a.channels - first);
    const int64_t channel = group * a.channels + first;
    Taps taps;
    with_type(a.weight_dtype, [&](auto* type) {
        const auto* weight = static_cast<decltype(type)>(a.weight);
        load_taps(weight + channel * a.taps, channels, a.taps, taps);
    });
    load_biases(a, channel, channels, taps);
    for (int64_t i = 0; i < a.rows.sequences; ++i) {
        const int64_t start = a.rows.query_starts[i];
        const int64_t count = a.rows.query_starts[i + 1] - start;
        if (count == 0) continue;
        float* state = a.state + a.rows.slots[i] * a.slot_stride + channel;
        if (a.rows.context_lens[i] == count) {
            for (int64_t tap = 0; tap < a.taps - 1; ++tap) {
                std::fill_n(state + tap * a.tap_stride, channels, 0.0f);
            }
        }
        convolve(a, taps, channels, count, a.x + start * a.x_stride + group * a.group_stride + first,
                 state, a.out + start * a.out_stride + channel, finish);
    }
}

// What `finish` makes of the sums.
template <class Finish>
void convolve_rows(const ConvolutionArgs& a, const Finish& finish) {
    if (a.rows.sequences == 0) return;
    const int64_t pieces = (a.channels + kConvolved - 1) / kConvolved;  // of a group
    const int64_t rows = std::max(1, a.rows.query_starts[a.rows.sequences]);
    const int64_t step = std::max<int64_t>(1, kRowsChunkElements / (rows * kConvolved));
    const int64_t every = a.groups * pieces;
    parallel_for((every + step - 1) / step, a.threads, [&](int64_t chunk) {
        const int64_t end = std::min(every, (chunk + 1) * step);
        for (int64_t piece = chunk * step; piece < end; ++piece) {
            convolve_all(a, piece / pieces, piece % pieces * kConvolved, finish);
        }
    });
}

inline void causal_convolution(const ConvolutionArgs& a) {
    convolve_rows(a, [](Vec sum) { return sigmoid_gate(sum, sum); });
}

inline void plain_convolution(const ConvolutionArgs& a) {
    convolve_rows(a, [](Vec sum) { return sum; });
}

}  // namespace LMO_ISA
}  // namespace lmo
