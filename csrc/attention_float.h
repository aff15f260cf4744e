// Products of a tile of queries with the blocks of a cache of floats.
//
// Keys lie with the 16 tokens of a block side by side for each channel, so that sixteen scores come
// out together; values lie with the channels of a token side by side.
#pragma once

#include "sixteens.h"

namespace lmo {
namespace LMO_ISA {

constexpr int kChains = kRegisters / 4;  // sixteens of sums that keep the multipliers busy

// Sixteens of keys or values that are computed together for C queries: at least two with 32
// registers, so that an input is loaded once for both.
template <int C>
constexpr int kSixteens = std::max(kChains / C, kRegisters / 16);

inline void scale_queries(const Work& w) {
    const int64_t head_dim = w.a.cache.head_dim;
    const Vec scale = splat(w.a.scale * kLog2E);
    each_query(w, [&](int64_t i, const float* from) {
        float* to = w.queries + i * head_dim;
        each_vector(head_dim, [&](int64_t d, auto span) {
            store(to + d, load(from + d, span) * scale, span);
        });
    });
}

// Scores of C queries with the keys of B blocks. A score is one sum over ascending channels.
template <int B, int C, class T>
LMO_INLINE void score_blocks(const Work& w, const uint8_t* const* blocks, int64_t query,
                         float* scores) {
    const int64_t head_dim = w.a.cache.head_dim;
    const float* queries = w.queries + query * head_dim;
    Sixteen sums[B][C];
    unrolled<B>([&](auto b) {
        unrolled<C>([&](auto c) {
            unrolled<kParts>([&](auto part) { sums[b][c].at[part] = zero(); });
        });
    });
    const auto elements = [&](int64_t b) { return reinterpret_cast<const T*>(blocks[b]); };
    each_step(head_dim, [&](int64_t d, auto is_even) LMO_BODY {
        const int64_t offset = d * kBlockTokens;
        unrolled<B>([&](auto b) {
            ask<is_even>(elements(b + Blocks::kNear), elements(b + Blocks::kFloatsFar), offset);
            const Sixteen key = load_sixteen(elements(b) + offset);
            unrolled<C>([&](auto c) {
                const Vec input = splat(queries[c * head_dim + d]);
                unrolled<kParts>([&](auto part) {
                    Vec& sum = sums[b][c].at[part];
                    sum = fma(key.at[part], input, sum);
                });
            });
        });
    });
    unrolled<B>([&](auto b) {
        unrolled<C>([&](auto c) {
            float* out = scores + c * kScorePitch + b * kBlockTokens;
            store_sixteen<T>(out, sums[b][c]);
        });
    });
}

template <class T>
void score_floats(const Work& w, const Range& range, const Blocks& blocks) {
    for (int64_t begin = 0; begin < blocks.count; begin += kChains) {
        const int64_t end = std::min(blocks.count, begin + kChains);
        each_few(w, [&](auto queries, int64_t query) {
            constexpr int C = decltype(queries)::value, B = kSixteens<C>;
            float* scores = w.scores + query * kScorePitch + range.offset();
            int64_t i = begin;
            for (; i + B <= end; i += B) {
                score_blocks<B, C, T>(w, blocks.keys() + i, query, scores + i * kBlockTokens);
            }
            for (; i < end; ++i) {
                score_blocks<1, C, T>(w, blocks.keys() + i, query, scores + i * kBlockTokens);
            }
        });
    }
}

// Tokens of one block: values and their weights.
template <class T>
struct Run {
    const T* values;       // [tokens][head_dim]
    const T *near, *far;   // of later blocks
    const float* weights;  // [queries][kScorePitch]
    int64_t tokens;
};

// mixed[c] += weights * values for C queries and P times sixteen channels over a run.
template <int C, int P, class T, class Span>
LMO_INLINE void mix_tile(const Work& w, const Run<T>& run, int64_t d, Span span, float* mixed) {
    const int64_t head_dim = w.a.cache.head_dim;
    constexpr int V = P * kParts;
    Vec sums[C][V];
    unrolled<C>([&](auto c) {
        unrolled<V>([&](auto v) { sums[c][v] = load(mixed + c * w.pitch + d + v * kLanes); });
    });
    each_step(run.tokens, [&](int64_t t, auto is_even) LMO_BODY {
        unrolled<P>([&](auto p) {
            const int64_t at = t * head_dim + d + p * kSixteen;
            constexpr bool even = ((is_even ? 0 : P) + p) % 2 == 0;
            ask<even>(run.near, run.far, d * kBlockTokens + (t * P + p) * kSixteen);
            const Sixteen value = load_sixteen(run.values + at, span);
            unrolled<C>([&](auto c) {
                const Vec weight = splat(run.weights[c * kScorePitch + t]);
                unrolled<kParts>([&](auto part) {
                    Vec& sum = sums[c][p * kParts + part];
                    sum = fma(weight, value.at[part], sum);
                });
            });
        });
    });
    unrolled<C>([&](auto c) {
        unrolled<V>([&](auto v) { store(mixed + c * w.pitch + d + v * kLanes, sums[c][v]); });
    });
}

template <int C, class T>
inline void mix_run(const Work& w, const Run<T>& run, float* mixed) {
    constexpr int P = kSixteens<C>;
    const int64_t head_dim = w.a.cache.head_dim;
    int64_t d = 0;
    for (; d + P * kSixteen <= head_dim; d += P * kSixteen) {
        mix_tile<C, P>(w, run, d, Whole{}, mixed);
    }
    for (; d + kSixteen <= head_dim; d += kSixteen) mix_tile<C, 1>(w, run, d, Whole{}, mixed);
    if (d < head_dim) mix_tile<C, 1>(w, run, d, Part{head_dim - d}, mixed);
}

// Adds the values of the positions that some row sees: others may hold any bits.
template <class T>
void mix_floats(const Work& w, const Range& range, const Blocks& blocks, float* mixed) {
    for (int64_t i = 0; i < blocks.count; ++i) {
        const int64_t begin = range.begin + i * kBlockTokens;
        const int64_t first = std::max(begin, range.first);
        const int64_t tokens = std::min(begin + kBlockTokens, range.last) - first;
        const int64_t at = (first - begin) * w.a.cache.head_dim;
        const auto values = [&](int64_t block) {
            return reinterpret_cast<const T*>(blocks.values()[block]) + at;
        };
        each_few(w, [&](auto queries, int64_t query) {
            const float* weights = w.scores + query * kScorePitch + first - range.segment;
            mix_run<decltype(queries)::value>(w,
                                              Run<T>{values(i), values(i + Blocks::kNear),
                                                     values(i + Blocks::kFloatsFar), weights, tokens},
                                              mixed + query * w.pitch);
        });
    }
}

}  // namespace LMO_ISA
}  // namespace lmo
