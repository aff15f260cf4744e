// Products of a tile of queries with the blocks of a cache of floats.
//
// Keys lie with the 16 tokens of a block side by side for each channel, so that sixteen scores come
// out together; values lie with the channels of a token side by side. Sixteen elements are one
// vector or two. Two of bf16 are the even and the odd elements, which one load, one shift and one
// mask give.
#pragma once

#include "attention_work.h"

namespace lmo {
namespace LMO_ISA {

constexpr int kParts = kSixteen / kLanes;
constexpr int kChains = kRegisters / 4;  // sixteens of sums that keep the multipliers busy

struct Sixteen {
    Vec at[kParts];
};

template <class T>
constexpr bool kEvenAndOdd = kParts == 2 && std::is_same_v<T, Bf16>;

template <class T>
inline Sixteen load_sixteen(const T* p) {
    Sixteen x;
    if constexpr (kEvenAndOdd<T>) {
        using Words = uint32_t __attribute__((vector_size(sizeof(Vec))));
        Words words;
        std::memcpy(&words, p, sizeof words);
        x.at[0] = (Vec)(words << 16);
        x.at[kParts - 1] = (Vec)(words & 0xFFFF0000u);
    } else {
        for (int i = 0; i < kParts; ++i) x.at[i] = load(p + i * kLanes);
    }
    return x;
}

template <class T>
inline Sixteen load_sixteen(const T* p, Whole) {
    return load_sixteen(p);
}

template <class T>
inline Sixteen load_sixteen(const T* p, Part part) {
    T elements[kSixteen] = {};
    std::memcpy(elements, p, static_cast<size_t>(part.count) * sizeof(T));
    return load_sixteen(elements);
}

// Writes sixteen in the order of their elements. A template over `Sixteens` too, because only
// vectors of eight have an interleave.
template <class T, class Sixteens>
inline void store_sixteen(float* p, const Sixteens& x) {
    if constexpr (kEvenAndOdd<T>) {
        interleave(x.at[0], x.at[kParts - 1], p);
    } else {
        for (int i = 0; i < kParts; ++i) store(p + i * kLanes, x.at[i]);
    }
}

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
    for (int64_t d = 0; d < head_dim; ++d) {
        const int64_t offset = d * kBlockTokens;
        unrolled<B>([&](auto b) {
            prefetch(reinterpret_cast<const T*>(blocks[b + Blocks::kFloatsAhead]) + offset);
            const Sixteen key = load_sixteen(reinterpret_cast<const T*>(blocks[b]) + offset);
            unrolled<C>([&](auto c) {
                const Vec input = splat(queries[c * head_dim + d]);
                unrolled<kParts>([&](auto part) {
                    Vec& sum = sums[b][c].at[part];
                    sum = fma(key.at[part], input, sum);
                });
            });
        });
    }
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
        each_four(w, [&](auto queries, int64_t query) {
            constexpr int C = decltype(queries)::value, B = kChains / C;
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
    const T* values;     // [tokens][head_dim]
    const T* ahead;      // of a later block
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
    for (int64_t t = 0; t < run.tokens; ++t) {
        unrolled<P>([&](auto p) {
            const int64_t at = t * head_dim + d + p * kSixteen;
            prefetch(run.ahead + d * kBlockTokens + (t * P + p) * kSixteen);
            const Sixteen value = load_sixteen(run.values + at, span);
            unrolled<C>([&](auto c) {
                const Vec weight = splat(run.weights[c * kScorePitch + t]);
                unrolled<kParts>([&](auto part) {
                    Vec& sum = sums[c][p * kParts + part];
                    sum = fma(weight, value.at[part], sum);
                });
            });
        });
    }
    unrolled<C>([&](auto c) {
        unrolled<V>([&](auto v) { store(mixed + c * w.pitch + d + v * kLanes, sums[c][v]); });
    });
}

template <int C, class T>
inline void mix_run(const Work& w, const Run<T>& run, float* mixed) {
    constexpr int P = kChains / C;
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
        each_four(w, [&](auto queries, int64_t query) {
            const float* weights = w.scores + query * kScorePitch + first - range.segment;
            mix_run<decltype(queries)::value>(
                w, Run<T>{values(i), values(i + Blocks::kFloatsAhead), weights, tokens},
                mixed + query * w.pitch);
        });
    }
}

}  // namespace LMO_ISA
}  // namespace lmo
