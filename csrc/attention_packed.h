// Products of a tile of queries with runs of a quantized cache, in integers.
//
// Queries are rounded to 16 bits with one step for each, the weights of softmax with one step for
// every 64 positions; their sums with the codes are exact, so that no order of adding matters.
#pragma once

#include "attention_work.h"
#include "kv_record.h"

namespace lmo {
namespace LMO_ISA {

constexpr float kLargestCode = 32767.0f;
constexpr float kLeast = 1e-30f;  // what is rounded to steps of less is zero

// The queries of one tile and the weights of 64 positions, rounded.
struct Rounded {
    int64_t head_dim, groups;
    int16_t* queries;    // [count][head_dim]
    int16_t* weights;    // [count][groups][kWeightTokens], times the values' scales
    float* query_step;   // [count]
    float* query_sums;   // [count][groups], of the rounded values
    float* weight_step;  // [count][groups]
    float* offset;       // [count][groups], sums of weights and minimums

    int64_t weight_pitch() const { return groups * kWeightTokens; }
};

// In the memory that a cache of floats needs for packed queries and converted runs, and behind.
template <int Bits>
inline Rounded rounded_in(const Work& w) {
    const int64_t head_dim = w.a.cache.head_dim, groups = Record<Bits>{head_dim}.groups();
    const int64_t count = w.q.count;
    auto* queries = reinterpret_cast<int16_t*>(w.q.packed);
    float* weights = w.q.packed + count * head_dim / 2;
    float* floats = weights + count * groups * kWeightTokens / 2;
    return {head_dim, groups, queries, reinterpret_cast<int16_t*>(weights), floats,
            floats + count, floats + count * (1 + groups), floats + count * (1 + 2 * groups)};
}

inline float sum_of(const int16_t* values, int64_t n) {
    int32_t total = 0;
    for (int64_t i = 0; i < n; ++i) total += values[i];
    return static_cast<float>(total);
}

// The largest size of n values; NaN where one is not finite.
inline float largest_size(const float* x, int64_t n) {
    Vec most = zero(), spoil = zero();
    for (int64_t i = 0; i < n; i += kLanes) {
        const Vec v = load(x + i);
        most = max(max(v, zero() - v), most);
        spoil = spoil + (v - v);
    }
    return largest(most) + sum(spoil);
}

// The most that a rounded query may be, so that a score fits 32 bits.
inline float query_limit(int64_t head_dim) {
    return std::min(kLargestCode, static_cast<float>(INT32_MAX / (128 * head_dim)));
}

template <int Bits>
inline void round_queries(const Work& w) {
    const Rounded r = rounded_in<Bits>(w);
    const float limit = query_limit(r.head_dim);
    const Record<Bits> layout{r.head_dim};
    each_query(w, [&](int64_t i, const float* from) {
        const float size = largest_size(from, r.head_dim);
        const Vec inverse = splat(size > kLeast ? limit / size : 0.0f);
        int16_t* to = r.queries + i * r.head_dim;
        for (int64_t d = 0; d < r.head_dim; d += kLanes) {
            store(to + d, round(load(from + d) * inverse));
        }
        r.query_step[i] = size / limit * w.a.scale;
        for (int64_t g = 0; g < r.groups; ++g) {
            const int64_t begin = g * kGroupChannels;
            r.query_sums[i * r.groups + g] = sum_of(to + begin, layout.group_end(g) - begin);
        }
    });
}

// Addresses of the records that a segment reads: keys, then values, in order of position.
struct Records {
    static constexpr int64_t kMost = kSegmentTokens / kBlockTokens;
    static constexpr int64_t kAhead = 4;  // records asked for before they are read

    int64_t count;
    const uint8_t* at[2 * kMost + kAhead];

    const uint8_t* keys(int64_t i) const { return at[i]; }
    const uint8_t* values(int64_t i) const { return at[count + i]; }
};

inline Records records_of(const Work& w, const Range& range) {
    const Cache& cache = w.a.cache;
    const int32_t* table = w.a.block_tables + w.tile.sequence * w.a.table_stride;
    const auto* keys = static_cast<const uint8_t*>(cache.keys) + w.kv_head * cache.head_stride;
    const auto* values = static_cast<const uint8_t*>(cache.values) + w.kv_head * cache.head_stride;
    Records records;
    records.count = (range.end - range.begin) / kBlockTokens;
    for (int64_t i = 0; i < records.count; ++i) {
        const int64_t offset = table[range.begin / kBlockTokens + i] * cache.block_stride;
        records.at[i] = keys + offset;
        records.at[records.count + i] = values + offset;
    }
    std::fill_n(records.at + 2 * records.count, Records::kAhead,
                records.at[2 * records.count - 1]);
    return records;
}

// Scores of C queries with the 16 keys of a record.
template <int Bits, int C>
inline void score_record(const Rounded& r, const uint8_t* record, const uint8_t* ahead,
                         int64_t query, float* scores) {
    const Record<Bits> layout{r.head_dim};
    const F16* scales = layout.scales(record);
    const F16* minimums = layout.minimums(record);
    Vec total[C][2];
    unrolled<C>([&](auto c) { total[c][0] = total[c][1] = zero(); });
    for (int64_t g = 0; g < r.groups; ++g) {
        const int64_t begin = g * kGroupChannels, columns = layout.group_end(g) - begin;
        Ints sums[C][2];
        clear(sums);
        dot_lanes<Bits>(sums, record + begin * Bits, layout.key_tile_bytes(),
                        r.queries + query * r.head_dim + begin, r.head_dim, columns,
                        ahead + 2 * begin * Bits);
        const float* query_sums = r.query_sums + query * r.groups + g;
        unrolled<2>([&](auto t) {
            const int64_t at = g * kBlockTokens + t * kLanes;
            const Vec scale = load(scales + at);
            const Vec minimum = Bits == 4 ? load(minimums + at) : zero();
            unrolled<C>([&](auto c) {
                Vec part = to_float(sums[c][t]) * scale;
                if (Bits == 4) part = fma(minimum, splat(query_sums[c * r.groups]), part);
                total[c][t] = total[c][t] + part;
            });
        });
    }
    unrolled<C>([&](auto c) {
        const Vec step = splat(r.query_step[query + c]);
        unrolled<2>([&](auto t) {
            store(scores + c * kScorePitch + t * kLanes, total[c][t] * step);
        });
    });
}

// Calls body(count, query) with 4 queries at a time, the count as a constant.
template <class Body>
inline void each_four(int64_t queries, const Body& body) {
    for (int64_t query = 0; query < queries; query += kTileRows) {
        with_count<kTileRows>(std::min<int64_t>(kTileRows, queries - query),
                              [&](auto count) { body(count, query); });
    }
}

template <int Bits>
inline void score_records(const Work& w, const Range& range, const Records& records) {
    const Rounded r = rounded_in<Bits>(w);
    for (int64_t i = 0; i < records.count; ++i) {
        float* scores = w.q.scores + range.begin - range.segment + i * kBlockTokens;
        prefetch(Record<Bits>{r.head_dim}.scales(records.at[i + Records::kAhead]));
        each_four(w.q.count, [&](auto count, int64_t query) {
            score_record<Bits, decltype(count)::value>(r, records.keys(i),
                                                       records.at[i + Records::kAhead], query,
                                                       scores + query * kScorePitch);
        });
    }
}

// Rounds the weights of one query for the values of some records, at most kWeightTokens.
template <int Bits>
inline void round_weights(const Rounded& r, const float* weights, const uint8_t* const* records,
                          int64_t count, int64_t query) {
    const Record<Bits> layout{r.head_dim};
    for (int64_t g = 0; g < r.groups; ++g) {
        Vec scaled[kWeightTokens / kLanes], most = zero(), total = zero();
        for (int64_t i = 0; i < 2 * count; ++i) {
            const int64_t at = g * kBlockTokens + i % 2 * kLanes;
            const Vec weight = load(weights + i * kLanes);
            // A hidden position may hold any bits.
            scaled[i] = where_nonzero(weight, weight * load(layout.scales(records[i / 2]) + at));
            most = max(scaled[i], most);
            total = total + (Bits == 8 ? scaled[i] : where_nonzero(weight, weight *
                                                   load(layout.minimums(records[i / 2]) + at)));
        }
        const float size = largest(most);
        const Vec inverse = splat(size > kLeast ? kLargestCode / size : 0.0f);
        const int64_t index = query * r.groups + g;
        int16_t* to = r.weights + index * kWeightTokens;
        for (int64_t i = 0; i < 2 * count; ++i) store(to + i * kLanes, round(scaled[i] * inverse));
        r.weight_step[index] = size / kLargestCode;
        r.offset[index] = Bits == 8 ? 0.0f * sum(total) : sum(total);  // NaN where a scale is NaN
    }
}

// mixed[query + c] += weights * values for the channels of T tiles.
template <int Bits, int C, int T>
inline void mix_tiles(const Rounded& r, const uint8_t* const* records, int64_t count, int64_t query,
                      int64_t tile, float* mixed, int64_t pitch) {
    const Record<Bits> layout{r.head_dim};
    const int64_t group = Bits == 8 ? 0 : tile * kLanes / kGroupChannels;
    const int64_t at = tile * layout.value_tile_bytes();
    const int16_t* weights = r.weights + (query * r.groups + group) * kWeightTokens;
    Ints sums[C][T];
    clear(sums);
    for (int64_t i = 0; i < count; ++i) {
        dot_lanes<Bits>(sums, records[i] + at, layout.value_tile_bytes(),
                        weights + i * kBlockTokens, r.weight_pitch(), kBlockTokens,
                        records[i + Records::kAhead] + at);
    }
    unrolled<C>([&](auto c) {
        const int64_t index = (query + c) * r.groups + group;
        const Vec step = splat(r.weight_step[index]), offset = splat(r.offset[index]);
        unrolled<T>([&](auto t) {
            float* out = mixed + c * pitch + (tile + t) * kLanes;
            store(out, fma(to_float(sums[c][t]), step, load(out) + offset));
        });
    });
}

template <int Bits>
inline void mix_records(const Work& w, const Range& range, const Records& records) {
    const Rounded r = rounded_in<Bits>(w);
    const int64_t tiles = r.head_dim / kLanes;
    const int64_t first = range.begin - range.segment, last = range.end - range.segment;
    for (int64_t at = first; at < last;) {
        const int64_t end = std::min(last, (at / kWeightTokens + 1) * kWeightTokens);
        const int64_t count = (end - at) / kBlockTokens;
        const uint8_t* const* from = records.at + records.count + (at - first) / kBlockTokens;
        for (int64_t i = 0; i < w.q.count; ++i) {
            round_weights<Bits>(r, w.q.scores + i * kScorePitch + at, from, count, i);
        }
        each_four(w.q.count, [&](auto queries, int64_t query) {
            constexpr int C = decltype(queries)::value;
            float* mixed = w.segment.mixed + query * w.q.pitch;
            int64_t tile = 0;
            for (; tile + 2 <= tiles; tile += 2) {
                mix_tiles<Bits, C, 2>(r, from, count, query, tile, mixed, w.q.pitch);
            }
            if (tile < tiles) mix_tiles<Bits, C, 1>(r, from, count, query, tile, mixed, w.q.pitch);
        });
        at = end;
    }
}

}  // namespace LMO_ISA
}  // namespace lmo
