// The gated delta rule of recurrent layers: a state that every row decays, reads and corrects. Rows of
// a sequence follow one another, so no result depends on chunks or batches.
#pragma once

#include "recurrent_args.h"
#include "recurrent_values.h"

namespace lmo {
namespace LMO_ISA {

constexpr int64_t kDeltaRows = 16;  // whose queries and keys are made ready at a time

// Some rows of one head: queries and keys of length one, and what is the same for all columns.
struct DeltaTile {
    float q[kDeltaRows][kMostKeyDim];  // scaled
    float k[kDeltaRows][kMostKeyDim];
    float decay[kDeltaRows];
    float rate[kDeltaRows];
    float overlap[kDeltaRows];  // q . k
};

inline float dot(const float* x, const float* y, int64_t width) {
    Vec total = zero();
    each_vector(width, [&](int64_t i, auto span) {
        total = fma(load(x + i, span), load(y + i, span), total);
    });
    return sum(total);
}

inline void normalise(const float* x, int64_t width, float scale, float* out) {
    const float length = std::sqrt(dot(x, x, width) + 1e-6f);
    const Vec factor = splat(scale / length);
    each_vector(width, [&](int64_t i, auto span) {
        store(out + i, load(x + i, span) * factor, span);
    });
}

// Rows `start` to `start + count` of head `head`.
inline void fill(const DeltaArgs& a, int64_t head, int64_t start, int64_t count, DeltaTile& tile) {
    const int64_t shared = a.heads / a.key_heads;
    const int64_t group = head / shared, turn = head % shared;
    const float amount = std::exp(value_at(a.decay_log, a.decay_log_dtype, head));
    const float bias = value_at(a.decay_bias, a.decay_bias_dtype, head);
    const float scale = 1.0f / std::sqrt(static_cast<float>(a.key_dim));
    for (int64_t i = 0; i < count; ++i) {
        const int64_t row = start + i;
        const float* q = a.x + row * a.x_stride + group * a.key_dim;
        normalise(q, a.key_dim, scale, tile.q[i]);
        normalise(q + a.key_heads * a.key_dim, a.key_dim, 1.0f, tile.k[i]);
        tile.overlap[i] = dot(tile.q[i], tile.k[i], a.key_dim);
        const float x = a.decays[row * a.decays_stride + group * a.decays_group_stride + turn];
        const float y = a.rates[row * a.rates_stride + group * a.rates_group_stride + turn];
        tile.decay[i] = std::exp(-amount * softplus(x + bias));
        tile.rate[i] = 1.0f / (1.0f + std::exp(-y));
    }
}

// Some columns of the state of a head, through the rows of a tile: what a key recalls of the state
// is corrected towards the row's value. Columns do not depend on one another.
template <int vectors, class Span>
inline void correct(const DeltaArgs& a, const DeltaTile& tile, int64_t count, float* state,
                    const float* v, float* out, Span span) {
    for (int64_t i = 0; i < count; ++i, v += a.x_stride, out += a.out_stride) {
        Vec recalled[vectors], read[vectors];
        for (int n = 0; n < vectors; ++n) recalled[n] = read[n] = zero();
        for (int64_t d = 0; d < a.key_dim; ++d) {
            const float* row = state + d * a.value_dim;
            const Vec k = splat(tile.k[i][d]), q = splat(tile.q[i][d]);
            for (int n = 0; n < vectors; ++n) {
                const Vec old = load(row + n * kLanes, span);
                recalled[n] = fma(k, old, recalled[n]);
                read[n] = fma(q, old, read[n]);
            }
        }
        const Vec decay = splat(tile.decay[i]), rate = splat(tile.rate[i]);
        const Vec overlap = splat(tile.overlap[i]);
        Vec change[vectors];
        for (int n = 0; n < vectors; ++n) {
            change[n] = (load(v + n * kLanes, span) - decay * recalled[n]) * rate;
            store(out + n * kLanes, fma(decay, read[n], overlap * change[n]), span);
        }
        for (int64_t d = 0; d < a.key_dim; ++d) {
            float* row = state + d * a.value_dim;
            const Vec k = splat(tile.k[i][d]);
            for (int n = 0; n < vectors; ++n) {
                const Vec old = load(row + n * kLanes, span);
                store(row + n * kLanes, fma(k, change[n], decay * old), span);
            }
        }
    }
}

// One head of one sequence.
inline void correct_head(const DeltaArgs& a, int64_t sequence, int64_t head) {
    constexpr int64_t columns = 4 * kLanes;
    const int64_t start = a.rows.query_starts[sequence];
    const int64_t stop = a.rows.query_starts[sequence + 1];
    const int64_t size = a.key_dim * a.value_dim;
    float* state = a.state + a.rows.slots[sequence] * a.slot_stride + head * size;
    if (start == stop) return;
    if (a.rows.context_lens[sequence] == stop - start) std::fill_n(state, size, 0.0f);
    const int64_t values = 2 * a.key_heads * a.key_dim + head * a.value_dim;
    const int64_t whole = a.value_dim / columns * columns;
    DeltaTile tile;
    for (int64_t row = start; row < stop; row += kDeltaRows) {
        const int64_t count = std::min(kDeltaRows, stop - row);
        fill(a, head, row, count, tile);
        const float* v = a.x + row * a.x_stride + values;
        float* out = a.out + row * a.out_stride + head * a.value_dim;
        for (int64_t at = 0; at < whole; at += columns) {
            correct<4>(a, tile, count, state + at, v + at, out + at, Whole{});
        }
        each_vector(a.value_dim - whole, [&](int64_t at, auto span) {
            at += whole;
            correct<1>(a, tile, count, state + at, v + at, out + at, span);
        });
    }
}

inline void gated_delta(const DeltaArgs& a) {
    parallel_for(a.rows.sequences * a.heads, a.threads, [&](int64_t chunk) {
        correct_head(a, chunk / a.heads, chunk % a.heads);
    });
}

}  // namespace LMO_ISA
}  // namespace lmo
