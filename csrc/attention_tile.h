// Products of a tile of queries with runs of keys and values; included per instruction set.
#pragma once

#include "attention_plan.h"
#include "linear_tile.h"

namespace lmo {
namespace LMO_ISA {

constexpr int64_t kRunTokens = 16;  // keys or values handled at a time, converted if reused
constexpr int64_t kScorePitch = kSegmentTokens + kLanes;

// Queries of one tile and one KV head, and what has been summed up for them so far.
struct Queries {
    int64_t count;       // rows * group; query i is row i / group, head i % group
    int64_t pitch;       // head_dim in whole vectors
    float* packed;       // [count][pitch], scaled
    float* scores;       // [count][kScorePitch], one segment
    float* converted;    // [kRunTokens][pitch], a run of keys or values in float
};

// Sums of a segment or of all segments so far: softmax numerators relative to e^peak.
struct Sums {
    float* peak;   // [count]
    float* total;  // [count]
    float* mixed;  // [count][pitch]
};

// Memory that is asked for a few lines at a time while something else is computed: all at
// once would block the loads of that computation.
struct Ahead {
    const char* next;
    const char* end;

    // Asks for one of `parts` equal parts of the whole.
    void ask(int64_t bytes, int64_t parts) {
        for (int64_t lines = bytes / (64 * parts) + 1; lines > 0 && next < end; --lines) {
            prefetch(next);
            next += 64;
        }
    }
};

// Tokens that lie together in one cache block.
template <class T>
struct Run {
    const T* data;  // [tokens][stride]
    int64_t stride, tokens;
    int64_t at;     // position within the segment
    int64_t bytes;  // of its tokens, and about those of the next run
    Ahead* ahead;   // the next run
};

template <class T>
Run<float> convert_run(const Queries& q, const Run<T>& run, int64_t head_dim) {
    for (int64_t t = 0; t < run.tokens; ++t) {
        const T* from = run.data + t * run.stride;
        float* to = q.converted + t * q.pitch;
        each_vector(head_dim, [&](int64_t i, auto span) { store(to + i, load(from + i, span)); });
    }
    return {q.converted, q.pitch, run.tokens, run.at, run.bytes, run.ahead};
}

// scores[query + c][at + token + r] for R tokens and C queries; what is written behind them
// is overwritten by later tokens or lies in the room that kScorePitch leaves.
template <int R, int C, class T>
inline void score_tile(const Queries& q, const Run<T>& run, int64_t token, int64_t query,
                       int64_t head_dim) {
    Accumulators<R, C> acc;
    acc.clear();
    dot_tile(acc, run.data + token * run.stride, run.stride, q.packed + query * q.pitch, q.pitch,
             head_dim);
    for (int c = 0; c < C; ++c) {
        float* out = q.scores + (query + c) * kScorePitch + run.at + token;
        sums(acc.at[0][c], acc.at[R > 1][c], acc.at[R > 2 ? 2 : 0][c], zero(), out);
    }
}

template <class T>
void score_run(const Queries& q, const Run<T>& run, int64_t head_dim) {
    for (int64_t token = 0; token < run.tokens; token += kTileWeights) {
        const int64_t tokens = std::min<int64_t>(kTileWeights, run.tokens - token);
        run.ahead->ask(run.bytes, kRunTokens / kTileWeights);
        with_count<kTileWeights>(tokens, [&](auto r) {
            constexpr int R = decltype(r)::value;
            int64_t query = 0;
            for (; query + kTileRows <= q.count; query += kTileRows) {
                score_tile<R, kTileRows>(q, run, token, query, head_dim);
            }
            with_count<kTileRows - 1>(q.count - query, [&](auto c) {
                score_tile<R, decltype(c)::value>(q, run, token, query, head_dim);
            });
        });
    }
}

// mixed[query + c][i + 8 v] += weights * values for C queries and V vectors over a run.
template <int C, int V, class T, class Span>
inline void mix_tile(const Queries& q, const Run<T>& run, int64_t query, int64_t i, Span span,
                     float* mixed) {
    const float* weights = q.scores + query * kScorePitch + run.at;
    Vec acc[C * V];
#pragma GCC unroll 12
    for (int j = 0; j < C * V; ++j) acc[j] = load(mixed + j / V * q.pitch + i + j % V * kLanes);
    for (int64_t t = 0; t < run.tokens; ++t) {
        Vec value[V];
        for (int v = 0; v < V; ++v) {
            value[v] = load(run.data + t * run.stride + i + v * kLanes, span);
        }
        for (int c = 0; c < C; ++c) {
            const Vec weight = splat(weights[c * kScorePitch + t]);
            for (int v = 0; v < V; ++v) acc[c * V + v] = fma(weight, value[v], acc[c * V + v]);
        }
    }
#pragma GCC unroll 12
    for (int j = 0; j < C * V; ++j) store(mixed + j / V * q.pitch + i + j % V * kLanes, acc[j]);
}

template <int C, class T>
void mix_queries(const Queries& q, const Run<T>& run, int64_t query, int64_t head_dim,
                 float* mixed) {
    constexpr int V = 3;
    int64_t i = 0;
    for (; i + V * kLanes <= head_dim; i += V * kLanes) {
        run.ahead->ask(run.bytes, q.pitch / (V * kLanes) + 1);
        mix_tile<C, V>(q, run, query, i, Whole{}, mixed);
    }
    for (; i + kLanes <= head_dim; i += kLanes) mix_tile<C, 1>(q, run, query, i, Whole{}, mixed);
    if (i < head_dim) mix_tile<C, 1>(q, run, query, i, Part{head_dim - i}, mixed);
}

template <class T>
void mix_run(const Queries& q, const Run<T>& run, int64_t head_dim, float* mixed) {
    for (int64_t query = 0; query < q.count; query += kTileRows) {
        const int64_t count = std::min<int64_t>(kTileRows, q.count - query);
        with_count<kTileRows>(count, [&](auto c) {
            mix_queries<decltype(c)::value>(q, run, query, head_dim, mixed + query * q.pitch);
        });
    }
}

}  // namespace LMO_ISA
}  // namespace lmo
