// Products of a tile of queries with the blocks of a quantized cache, in integers.
//
// Queries are rounded with one step for each, the weights of softmax with one step for every 64
// positions; their sums with the codes are exact, so that no order of adding matters.
#pragma once

#include "attention_work.h"
#include "kv_products.h"

namespace lmo {
namespace LMO_ISA {

constexpr float kLeast = 1e-30f;  // a query of nothing larger is zero
constexpr int kBlockVectors = kBlockTokens / kLanes;  // of the keys of a block
constexpr int kWeightBlocks = kWeightTokens / kBlockTokens;

// The queries of one tile and the weights of 64 positions, rounded.
template <int Bits>
struct Rounded {
    using Number = typename Products<Bits>::Number;

    Record<Bits> layout;
    Number* queries;     // [count][head_dim]
    Number* weights;     // [count][groups][kWeightTokens], times the values' scales
    float* query_step;   // [count]
    float* query_sums;   // [count][groups], of the rounded values
    float* weight_step;  // [count][groups]
    float* offset;       // [count][groups], sums of weights times minimums

    int64_t weight_pitch() const { return layout.groups() * kWeightTokens; }
};

template <int Bits>
inline Rounded<Bits> rounded_in(const Work& w) {
    using Number = typename Products<Bits>::Number;
    const Record<Bits> layout{w.a.cache.head_dim};
    const int64_t factors = w.count * layout.groups();
    float* weights = w.queries + w.count * layout.head_dim / 2;
    float* floats = weights + factors * kWeightTokens / 2;
    return {layout, reinterpret_cast<Number*>(w.queries), reinterpret_cast<Number*>(weights), floats,
            floats + w.count, floats + w.count + factors, floats + w.count + 2 * factors};
}

// The largest size of n values; NaN where one is not finite.
inline float largest_size(const float* x, int64_t n) {
    Vec most = zero(), spoil = zero();
    each_vector(n, [&](int64_t i, auto span) {
        const Vec v = load(x + i, span);
        most = max(max(v, zero() - v), most);
        spoil = spoil + (v - v);
    });
    return largest(most) + sum(spoil);
}

// Rounds `columns` channels of a query; their sum, where codes have minimums.
template <int Bits>
inline float round_query(const float* from, float inverse, int64_t columns,
                         typename Products<Bits>::Number* to) {
    Vec total = zero();
    each_vector(columns, [&](int64_t d, auto span) {
        const Vec rounded = round(load(from + d, span) * splat(inverse));
        Products<Bits>::write(to + d, rounded, span);
        total = total + rounded;
    });
    return sum(total);
}

template <int Bits>
inline void round_queries(const Work& w) {
    const Rounded<Bits> r = rounded_in<Bits>(w);
    const int64_t head_dim = r.layout.head_dim, groups = r.layout.groups();
    const float limit = Products<Bits>::query_limit(head_dim);
    each_query(w, [&](int64_t i, const float* from) {
        const float size = largest_size(from, head_dim);
        const float inverse = size > kLeast ? limit / size : 0.0f;
        r.query_step[i] = size / limit * w.a.scale * kLog2E;
        for (int64_t g = 0; g < groups; ++g) {
            const int64_t begin = g * kGroupChannels, columns = r.layout.group_end(g) - begin;
            r.query_sums[i * groups + g] =
                round_query<Bits>(from + begin, inverse, columns, r.queries + i * head_dim + begin);
        }
    });
}

// Scores of C queries with the 16 keys of a block.
template <int Bits, int C>
LMO_INLINE void score_block(const Rounded<Bits>& r, const uint8_t* const* blocks, int64_t query,
                        float* scores) {
    const Record<Bits>& layout = r.layout;
    const uint8_t* block = *blocks;
    const F16* scales = layout.scales(block);
    const F16* minimums = layout.minimums(block);
    Vec total[C][kBlockVectors];
    unrolled<C>([&](auto c) { std::fill_n(total[c], kBlockVectors, zero()); });
    for (int64_t g = 0; g < layout.groups(); ++g) {
        const int64_t begin = g * kGroupChannels, columns = layout.group_end(g) - begin;
        Ints sums[C][kBlockVectors];
        clear(sums);
        const int64_t at = 2 * begin * Bits;  // of both tiles
        const Lanes lanes{block + begin * Bits, layout.key_tile_bytes(), blocks[Blocks::kNear] + at,
                          blocks[Blocks::kFar] + at};
        Products<Bits>::template add<true>(
            sums, lanes, r.queries + query * layout.head_dim + begin, layout.head_dim, columns);
        const float* query_sums = r.query_sums + query * layout.groups() + g;
        unrolled<kBlockVectors>([&](auto t) {
            const int64_t at = g * kBlockTokens + t * kLanes;
            const Vec scale = load(scales + at);
            const Vec minimum = Bits == 4 ? load(minimums + at) : zero();
            unrolled<C>([&](auto c) {
                Vec part = to_float(sums[c][t]) * scale;
                if (Bits == 4) part = fma(minimum, splat(query_sums[c * layout.groups()]), part);
                total[c][t] = total[c][t] + part;
            });
        });
    }
    unrolled<C>([&](auto c) {
        const Vec step = splat(r.query_step[query + c]);
        unrolled<kBlockVectors>([&](auto t) {
            store(scores + c * kScorePitch + t * kLanes, total[c][t] * step);
        });
    });
}

template <int Bits>
inline void score_packed(const Work& w, const Range& range, const Blocks& blocks) {
    const Rounded<Bits> r = rounded_in<Bits>(w);
    for (int64_t i = 0; i < blocks.count; ++i) {
        const uint8_t* const* block = blocks.keys() + i;
        r.layout.ask_factors(block[Blocks::kFar]);
        float* scores = w.scores + range.offset() + i * kBlockTokens;
        each_few(w, [&](auto count, int64_t query) {
            score_block<Bits, decltype(count)::value>(r, block, query,
                                                      scores + query * kScorePitch);
        });
    }
}

// Scales and minimums of the values of 64 positions; zero where nothing was written yet.
template <int Bits>
struct ValueFactors {
    float scales[kWeightTokens], minimums[kWeightTokens];
    float poison;  // NaN if a scale is, else 0

    void load_from(const Record<Bits>& layout, const uint8_t* const* blocks, int64_t group,
                   int64_t tokens) {
        if (tokens < kWeightTokens) {
            std::fill_n(scales, kWeightTokens, 0.0f);
            std::fill_n(minimums, kWeightTokens, 0.0f);
        }
        Vec spoil = zero();
        each_vector(tokens, [&](int64_t t, auto span) {
            const int64_t at = group * kBlockTokens + t % kBlockTokens;
            const uint8_t* block = blocks[t / kBlockTokens];
            const Vec scale = load(layout.scales(block) + at, span);
            store(scales + t, scale);
            if (Bits == 4) store(minimums + t, load(layout.minimums(block) + at, span));
            spoil = spoil + (scale - scale);
        });
        poison = sum(spoil);
    }
};

// The power of two that weights up to `most` are rounded to multiples of: fewer than 2^bits of
// them, but no fewer than half as many.
struct Steps {
    float step, inverse;
};

inline Steps steps_for(float most, uint32_t bits) {
    uint32_t exponent;
    std::memcpy(&exponent, &most, sizeof exponent);
    exponent = std::max(exponent >> 23 & 0xFFu, 64u);  // a tiny largest weight may become zero
    const uint32_t step = (exponent - bits + 1) << 23, inverse = (253 + bits - exponent) << 23;
    Steps steps;
    std::memcpy(&steps.step, &step, sizeof step);
    std::memcpy(&steps.inverse, &inverse, sizeof inverse);
    return steps;
}

// Rounds the weights of one query for the values of N blocks.
template <int Bits, int N>
LMO_INLINE void round_weights(const Rounded<Bits>& r, const ValueFactors<Bits>& factors,
                          const float* weights, int64_t index) {
    constexpr int V = N * kBlockTokens / kLanes;
    Vec scaled[V], most = zero(), offset = splat(factors.poison);
    unrolled<V>([&](auto v) {
        const Vec weight = load(weights + v * kLanes);
        scaled[v] = weight * load(factors.scales + v * kLanes);
        most = max(scaled[v], most);
        if (Bits == 4) offset = fma(weight, load(factors.minimums + v * kLanes), offset);
    });
    constexpr uint32_t bits = Products<Bits>::kWeightBits;
    const Steps steps = steps_for(largest(most), bits);
    const Vec inverse = splat(steps.inverse), limit = splat(static_cast<float>((1 << bits) - 1));
    auto* to = r.weights + index * kWeightTokens;
    unrolled<V>([&](auto v) {
        Products<Bits>::write(to + v * kLanes, round(min(scaled[v] * inverse, limit)), Whole{});
    });
    r.weight_step[index] = steps.step;
    r.offset[index] = sum(offset);
}

// mixed[c] += weights * values for C queries and T vectors of channels; the last may be one tile.
template <int Bits, int C, int T, class Span>
LMO_INLINE void mix_tiles(const Rounded<Bits>& r, const uint8_t* const* blocks, int64_t count,
                      int64_t query, int64_t channel, Span span, float* mixed, int64_t pitch) {
    const Record<Bits>& layout = r.layout;
    const int64_t group = Bits == 8 ? 0 : channel / kGroupChannels;
    const int64_t tile_bytes = layout.value_tile_bytes(), at = channel / kTileLanes * tile_bytes;
    const int64_t stride = std::is_same_v<Span, Whole> ? tile_bytes : 0;
    const auto* weights = r.weights + (query * layout.groups() + group) * kWeightTokens;
    Ints sums[C][T];
    clear(sums);
    for (int64_t i = 0; i < count; ++i) {
        const Lanes lanes{blocks[i] + at, stride, blocks[i + Blocks::kNear] + at,
                          blocks[i + Blocks::kFar] + at};
        Products<Bits>::template add<false>(sums, lanes, weights + i * kBlockTokens,
                                            r.weight_pitch(), kBlockTokens);
    }
    unrolled<C>([&](auto c) {
        const int64_t index = (query + c) * layout.groups() + group;
        const Vec step = splat(r.weight_step[index]), offset = splat(r.offset[index]);
        unrolled<T>([&](auto t) {
            float* out = mixed + c * pitch + channel + t * kLanes;
            store(out, fma(to_float(sums[c][t]), step, load(out, span) + offset), span);
        });
    });
}

// Adds the values of `count` blocks, at most kWeightBlocks, of which `tokens` were written.
template <int Bits>
inline void mix_blocks(const Work& w, const uint8_t* const* blocks, int64_t count, int64_t tokens,
                       const float* weights, float* mixed) {
    const Rounded<Bits> r = rounded_in<Bits>(w);
    const Record<Bits>& layout = r.layout;
    const int64_t channels = layout.head_dim;
    for (int64_t i = 0; i < count; ++i) layout.ask_factors(blocks[i + Blocks::kFar]);
    ValueFactors<Bits> factors;
    for (int64_t g = 0; g < layout.groups(); ++g) {
        factors.load_from(layout, blocks, g, tokens);
        with_count<kWeightBlocks>(count, [&](auto n) {
            for (int64_t i = 0; i < w.count; ++i) {
                round_weights<Bits, decltype(n)::value>(r, factors, weights + i * kScorePitch,
                                                        i * layout.groups() + g);
            }
        });
    }
    each_few(w, [&](auto queries, int64_t query) {
        constexpr int C = decltype(queries)::value;
        float* sums = mixed + query * w.pitch;
        const auto mix = [&](auto vectors, int64_t channel, auto span) {
            mix_tiles<Bits, C, decltype(vectors)::value>(r, blocks, count, query, channel, span,
                                                         sums, w.pitch);
        };
        int64_t channel = 0;
        for (; channel + 2 * kLanes <= channels; channel += 2 * kLanes) {
            mix(std::integral_constant<int, 2>(), channel, Whole{});
        }
        each_vector(channels - channel, [&](int64_t more, auto span) {
            mix(std::integral_constant<int, 1>(), channel + more, span);
        });
    });
}

template <int Bits>
inline void mix_packed(const Work& w, const Range& range, const Blocks& blocks, float* mixed) {
    for (int64_t at = range.begin; at < range.end;) {
        const int64_t end = std::min(range.end, (at / kWeightTokens + 1) * kWeightTokens);
        mix_blocks<Bits>(w, blocks.values() + (at - range.begin) / kBlockTokens,
                         (end - at) / kBlockTokens, std::min(end, range.last) - at,
                         w.scores + at - range.segment, mixed);
        at = end;
    }
}

}  // namespace LMO_ISA
}  // namespace lmo
