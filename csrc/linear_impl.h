// Products with row-major weights [n, k] that are read from memory once. For few rows they are
// converted in registers for each tile, which costs less than keeping them converted.
#pragma once

#include "held_inputs.h"
#include "linear_lanes.h"
#include "packed_codes.h"
#include "product_chunks.h"

namespace lmo {
namespace LMO_ISA {

constexpr int64_t kChunkBytes = 128 << 10;  // weights of one chunk: they stay in the L2 cache
constexpr int64_t kPassedBytes = 512 << 10;  // where one pass uses them: fewer first tiles, unasked
constexpr int64_t kInputBytes = 256 << 10;  // inputs of one block of rows, beside them
constexpr int64_t kAheadBytes = 1 << 10;    // how far ahead of their use weights are asked for
constexpr int64_t kStreamBytes = 16 << 10;  // the same where they are read as they lie

// One chunk of weight rows.
template <class W>
struct Chunk {
    const LinearArgs& a;
    const W* weight;
    HeldInputs<Kind<W>> x;
    int64_t begin, end;
    int64_t ahead;  // columns from what is read to what is asked for, at most all
};

// Elements from columns that R rows are read at to what is asked for meanwhile: later columns, and
// behind the last ones the first columns of the next R rows.
template <int R, class W>
int64_t ahead_of(const Chunk<W>& chunk, int64_t column) {
    const int64_t k = chunk.a.k, ahead = chunk.ahead;
    return column + ahead < k ? ahead : ahead - k + R * chunk.a.weight_stride;
}

// acc[r][c] = weight[r, 0:k] * x[c, 0:k], a row of weights after the other.
template <int R, int C, class W>
inline __attribute__((always_inline)) void dot_in_turn(Accumulators<R, C>& acc, const W* weight,
                                                       int64_t weight_stride,
                                                       const typename Kind<W>::Input* x,
                                                       int64_t x_stride, int64_t k) {
    constexpr int64_t step = kLineBytes / sizeof(W), ahead = kStreamBytes / sizeof(W);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r, weight += weight_stride) {
        Accumulators<1, C> sums;
        sums.clear();
        int64_t i = 0;
        for (; i + step <= k; i += step) {
            prefetch(weight + i + ahead);
            dot_tile(sums, weight + i, weight_stride, x + i, x_stride, step);
        }
        dot_tile(sums, weight + i, weight_stride, x + i, x_stride, k - i);
        for (int c = 0; c < C; ++c) acc.at[r][c] = sums.at[0][c];
    }
}

// out[m : m + C, n : n + R]. Asks for the weights of later tiles that come from memory, in one of
// `Turns` tiles of rows for every so many rows of them, in none if that is 0.
template <int Turns, int R, int C, class W>
void linear_tile(const Chunk<W>& chunk, int64_t m, int64_t n) {
    constexpr int64_t step = kLineBytes / sizeof(W);
    const LinearArgs& a = chunk.a;
    const W* weight = chunk.weight + n * a.weight_stride;
    const auto* x = chunk.x.at + m * chunk.x.stride;
    Accumulators<R, C> acc;
    if constexpr (Turns > 0 && C <= Kind<W>::kStreamedRows) {
        dot_in_turn(acc, weight, a.weight_stride, x, chunk.x.stride, a.k);
        return finish_tile(a, m, n, acc);
    }
    acc.clear();
    int64_t i = 0;
    if constexpr (Turns > 0) {
        const int64_t turn = m / kTileRows * a.weight_stride;
        for (; i + step <= a.k; i += step) {
            const W* ahead = weight + i + ahead_of<R>(chunk, i) + turn;
            for (int r = 0; r < R; r += Turns) prefetch(ahead + r * a.weight_stride);
            dot_tile(acc, weight + i, a.weight_stride, x + i, chunk.x.stride, step);
        }
    }
    dot_tile(acc, weight + i, a.weight_stride, x + i, chunk.x.stride, a.k - i);
    finish_tile(a, m, n, acc);
}

// Rows [m, m + C) times weights [n, n + weights), which are at most R.
template <int Turns, int R, int C, class W>
void linear_rows(const Chunk<W>& chunk, int64_t m, int64_t n, int64_t weights) {
    with_count<R>(weights, [&](auto r) {
        linear_tile<Turns, decltype(r)::value, C>(chunk, m, n);
    });
}

// Rows [begin, end), whole tiles, times the chunk; only the first `Turns` tiles find it in memory.
template <int Turns, class W>
void whole_tiles(const Chunk<W>& chunk, int64_t begin, int64_t end) {
    for (int64_t n = chunk.begin; n < chunk.end; n += kTileWeights) {
        const int64_t weights = std::min<int64_t>(kTileWeights, chunk.end - n);
        for (int64_t m = begin; m < end; m += kTileRows) {
            if (m < Turns * kTileRows) {
                linear_rows<Turns, kTileWeights, kTileRows>(chunk, m, n, weights);
            } else {
                linear_rows<0, kTileWeights, kTileRows>(chunk, m, n, weights);
            }
        }
    }
}

// Rows [0, end): lines on their way to the L1 cache are few, so all tiles of rows ask for some.
template <class W>
void first_tiles(const Chunk<W>& chunk, int64_t end) {
    const int64_t tiles = end / kTileRows;
    if (tiles >= 4) return whole_tiles<4>(chunk, 0, end);
    if (tiles >= 2) return whole_tiles<2>(chunk, 0, end);
    whole_tiles<1>(chunk, 0, end);
}

// The rows [m, a.m), fewer than a tile: they leave registers for one more weight.
template <int Turns, class W>
void last_rows(const Chunk<W>& chunk, int64_t m) {
    with_count<kTileRows - 1>(chunk.a.m - m, [&](auto rows) {
        constexpr int C = decltype(rows)::value;
        constexpr int step = kTileWeights + 1;
        for (int64_t n = chunk.begin; n < chunk.end; n += step) {
            const int64_t weights = std::min<int64_t>(step, chunk.end - n);
            linear_rows<Turns, step, C>(chunk, m, n, weights);
        }
    });
}

// All rows times one chunk of weights, by blocks of rows whose inputs stay in the L2 cache.
template <class W>
void linear_chunk(const Chunk<W>& chunk) {
    const LinearArgs& a = chunk.a;
    const int64_t fit = kInputBytes / (a.k * static_cast<int64_t>(sizeof(*chunk.x.at)));
    const int64_t block = std::max<int64_t>(kTileRows, fit / kTileRows * kTileRows);
    const int64_t whole = a.m / kTileRows * kTileRows;
    if (whole == 0) return last_rows<1>(chunk, 0);
    first_tiles(chunk, std::min(whole, block));
    for (int64_t m = block; m < whole; m += block) {
        whole_tiles<0>(chunk, m, std::min(whole, m + block));
    }
    last_rows<0>(chunk, whole);
}

// How many of n rows of weights make a chunk: four chunks a thread, or as many bytes as stay in the
// cache for the next tile of the m rows of inputs; a multiple of `step`.
inline int64_t chunk_rows(int64_t m, int64_t n, int64_t row_bytes, int64_t step, int threads) {
    const int64_t bytes = m > kTileRows ? kChunkBytes : kPassedBytes;
    const int64_t share = (n + 4 * threads - 1) / (4 * threads);
    const int64_t fit = std::min(share, bytes / row_bytes);
    return std::max(step, (fit + step - 1) / step * step);
}

inline int64_t weight_row_bytes(const LinearArgs& a) {
    return a.k * (a.weight_dtype == Dtype::f32 ? 4 : 2);
}

inline int64_t linear_step(const LinearArgs& a) {
    constexpr int64_t tiles = kTileWeights * (kTileWeights + 1);  // of whole_tiles and of last_rows
    return chunk_rows(a.m, a.n, weight_row_bytes(a), tiles, a.threads);
}

// Several tiles of rows leave time enough for all columns of the next weights.
template <class W>
int64_t ahead_columns(const LinearArgs& a) {
    constexpr int64_t columns = kAheadBytes / static_cast<int64_t>(sizeof(W));
    return a.m > kTileRows ? a.k : std::min(a.k, columns);
}

inline int64_t linear_scratch_bytes(int64_t m, int64_t n, int64_t k, int threads) {
    using Halves = Kind<Bf16>;  // the first to be taken lane by lane
    if (m > Halves::kFewRows) return lane_scratch_bytes(m, n, k, threads);
    return held_bytes(Halves{}, m, k);
}

// Products with weights of one type.
template <class W>
void linear_of(const LinearRun& products) {
    if (products.first().m > Kind<W>::kFewRows) return lane_linear<W>(products);
    const auto chunks = [](const LinearArgs& a) {
        const int64_t step = linear_step(a);
        return (a.n + step - 1) / step;
    };
    const auto x = held_inputs(Kind<W>{}, products.first());
    each_chunk(products, chunks, [&](const LinearArgs& a, int64_t i) {
        const int64_t step = linear_step(a), end = std::min(a.n, (i + 1) * step);
        const auto* weight = static_cast<const W*>(a.weight);
        linear_chunk(Chunk<W>{a, weight, x, i * step, end, ahead_columns<W>(a)});
    });
}

inline bool same_type(const LinearRun& products) {
    return std::all_of(products.at, products.at + products.count, [&](const LinearArgs& a) {
        return a.weight_dtype == products.first().weight_dtype;
    });
}

inline void linear(const LinearRun& products) {
    if (!same_type(products)) {
        for (int i = 0; i < products.count; ++i) linear({{products.at[i]}, 1});
        return;
    }
    with_type(products.first().weight_dtype, [&](auto* type) {
        linear_of<std::remove_const_t<std::remove_pointer_t<decltype(type)>>>(products);
    });
}

}  // namespace LMO_ISA
}  // namespace lmo
