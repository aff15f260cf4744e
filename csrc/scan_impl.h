// The recurrence of Mamba-2: a state that every row decays, adds to and reads. Rows of a sequence
// follow one another, so no result depends on chunks or batches.
#pragma once

#include "recurrent_args.h"
#include "recurrent_values.h"

namespace lmo {
namespace LMO_ISA {

constexpr int64_t kScanRows = 32;  // whose steps are made ready at a time

// Some rows of one head.
struct ScanTile {
    float decay[kScanRows];
    float step[kScanRows];
};

// Where the keys and queries of a head lie in a row of x, and its own values.
struct ScanPlaces {
    int64_t key, query, value;
};

inline ScanPlaces places_of(const ScanArgs& a, int64_t head) {
    const int64_t group = head / (a.heads / a.key_heads), values = a.heads * a.value_dim;
    const int64_t key = values + group * a.key_dim;
    return {key, key + a.key_heads * a.key_dim, head * a.value_dim};
}

// Rows `start` to `start + count` of head `head`.
inline void fill(const ScanArgs& a, int64_t head, int64_t start, int64_t count, ScanTile& tile) {
    const float amount = std::exp(value_at(a.decay_log, a.decay_log_dtype, head));
    const float bias = value_at(a.step_bias, a.step_bias_dtype, head);
    for (int64_t i = 0; i < count; ++i) {
        const float step = softplus(a.steps[(start + i) * a.steps_stride + head] + bias);
        tile.step[i] = std::min(std::max(step, a.least_step), a.most_step);
        tile.decay[i] = std::exp(-amount * tile.step[i]);
    }
}

// Some columns of the state of a head, through the rows of a tile: each key adds the row's value
// times its step, and the query reads what is there then. Columns do not depend on one another.
template <int vectors, class Span>
inline void scan(const ScanArgs& a, const ScanTile& tile, const ScanPlaces& places, float skip,
                 int64_t count, const float* x, int64_t column, float* state, float* out,
                 Span span) {
    const Vec skipped = splat(skip);
    for (int64_t i = 0; i < count; ++i, x += a.x_stride, out += a.out_stride) {
        const float *keys = x + places.key, *queries = x + places.query;
        const Vec decay = splat(tile.decay[i]), step = splat(tile.step[i]);
        Vec added[vectors], read[vectors];
        for (int n = 0; n < vectors; ++n) {
            const Vec value = load(x + places.value + column + n * kLanes, span);
            added[n] = step * value;
            read[n] = skipped * value;
        }
        for (int64_t d = 0; d < a.key_dim; ++d) {
            float* row = state + d * a.value_dim;
            const Vec key = splat(keys[d]), query = splat(queries[d]);
            for (int n = 0; n < vectors; ++n) {
                const Vec now = fma(key, added[n], decay * load(row + n * kLanes, span));
                store(row + n * kLanes, now, span);
                read[n] = fma(query, now, read[n]);
            }
        }
        for (int n = 0; n < vectors; ++n) store(out + n * kLanes, read[n], span);
    }
}

// One head of one sequence.
inline void scan_head(const ScanArgs& a, int64_t sequence, int64_t head) {
    constexpr int64_t columns = 4 * kLanes;
    const int64_t start = a.rows.query_starts[sequence];
    const int64_t stop = a.rows.query_starts[sequence + 1];
    const int64_t size = a.key_dim * a.value_dim;
    float* state = a.state + a.rows.slots[sequence] * a.slot_stride + head * size;
    if (start == stop) return;
    if (a.rows.context_lens[sequence] == stop - start) std::fill_n(state, size, 0.0f);
    const ScanPlaces places = places_of(a, head);
    const float skip = value_at(a.skip, a.skip_dtype, head);
    const int64_t whole = a.value_dim / columns * columns;
    ScanTile tile;
    for (int64_t row = start; row < stop; row += kScanRows) {
        const int64_t count = std::min(kScanRows, stop - row);
        fill(a, head, row, count, tile);
        const float* x = a.x + row * a.x_stride;
        float* out = a.out + row * a.out_stride + head * a.value_dim;
        for (int64_t at = 0; at < whole; at += columns) {
            scan<4>(a, tile, places, skip, count, x, at, state + at, out + at, Whole{});
        }
        each_vector(a.value_dim - whole, [&](int64_t at, auto span) {
            at += whole;
            scan<1>(a, tile, places, skip, count, x, at, state + at, out + at, span);
        });
    }
}

inline void selective_scan(const ScanArgs& a) {
    parallel_for(a.rows.sequences * a.heads, a.threads, [&](int64_t chunk) {
        scan_head(a, chunk / a.heads, chunk % a.heads);
    });
}

}  // namespace LMO_ISA
}  // namespace lmo
