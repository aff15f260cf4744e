// One piece of attention: a tile of queries, one KV head, and the cached tokens it sees.
#pragma once

#include <cfloat>

#include "attention_tile.h"
#include "kv_record.h"
#include "scratch.h"

namespace lmo {
namespace LMO_ISA {

// One tile and one KV head, in the working memory of the thread that computes it.
struct Work {
    const AttentionArgs& a;
    Tile tile;
    int64_t kv_head, group;
    Queries q;
    Sums segment, overall;
};

inline int64_t vector_pitch(int64_t width) { return (width + kLanes - 1) / kLanes * kLanes; }

inline int64_t sums_size(int64_t count, int64_t pitch) { return count * (pitch + 2); }

inline Sums sums_in(float* memory, int64_t count) {
    return {memory, memory + count, memory + 2 * count};
}

// Working memory of one query beside its scores and sums: the query itself, or, for a quantized
// cache, what attention_packed.h makes of it.
inline int64_t query_floats(const Cache& cache, int64_t pitch) {
    const int64_t groups = (cache.head_dim + kGroupChannels - 1) / kGroupChannels;
    return cache.bits ? pitch / 2 + 1 + groups * (kWeightTokens / 2 + 3) : pitch;
}

inline Work make_work(const AttentionArgs& a, const Tile& tile, int64_t kv_head) {
    const int64_t group = a.heads / a.cache.kv_heads;
    const int64_t count = tile.rows * group;
    const int64_t pitch = vector_pitch(a.cache.head_dim);
    const int64_t sums = sums_size(count, pitch);
    const int64_t packed = count * query_floats(a.cache, pitch);
    float* memory = scratch(Scratch::chunk, count * kScorePitch + 2 * sums + packed +
                                                (a.cache.bits ? 0 : kRunTokens * pitch));
    float* segment = memory + count * kScorePitch;
    float* queries = segment + 2 * sums;
    return {a, tile, kv_head, group, {count, pitch, queries, memory, queries + packed},
            sums_in(segment, count), sums_in(segment + sums, count)};
}

inline void clear(const Sums& sums, const Queries& q) {
    std::fill_n(sums.peak, q.count, -FLT_MAX);  // finite: a row without keys stays at zero
    std::fill_n(sums.total, q.count, 0.0f);
    std::fill_n(sums.mixed, q.count * q.pitch, 0.0f);
}

// Calls body(i, q) for the queries of the work.
template <class Body>
inline void each_query(const Work& w, const Body& body) {
    for (int64_t i = 0; i < w.q.count; ++i) {
        const int64_t row = w.tile.row + i / w.group;
        const int64_t head = w.kv_head * w.group + i % w.group;
        body(i, w.a.q + row * w.a.q_stride + head * w.a.q_head_stride);
    }
}

inline void pack_queries(const Work& w) {
    const Vec scale = splat(w.a.scale);
    each_query(w, [&](int64_t i, const float* from) {
        float* to = w.q.packed + i * w.q.pitch;
        each_vector(w.a.cache.head_dim, [&](int64_t d, auto span) {
            store(to + d, load(from + d, span) * scale);
        });
    });
}

// Positions [begin, end) of a segment that some row of the tile sees; whole blocks of a quantized
// cache.
struct Range {
    int64_t segment, begin, end;  // the segment's first position; absolute positions
};

inline Range visible_range(const Work& w, int64_t segment) {
    const int64_t start = segment * kSegmentTokens;
    const int64_t oldest = std::max<int64_t>(0, w.tile.position - w.a.window + 1);
    const int64_t begin = std::max(start, oldest);
    const int64_t end = std::min(start + kSegmentTokens, w.tile.position + w.tile.rows);
    if (w.a.cache.bits == 0) return {start, begin, end};
    return {start, begin / kBlockTokens * kBlockTokens,
            (end + kBlockTokens - 1) / kBlockTokens * kBlockTokens};
}

// Calls body(run) for the runs of cached tokens that cover the range.
template <class T, class Body>
void each_run(const Work& w, const T* data, const Range& range, const Body& body) {
    const Cache& cache = w.a.cache;
    const int32_t* table = w.a.block_tables + w.tile.sequence * w.a.table_stride;
    const auto address = [&](int64_t position) {
        return data + table[position / cache.block_tokens] * cache.block_stride +
               w.kv_head * cache.head_stride + position % cache.block_tokens * cache.head_dim;
    };
    for (int64_t at = range.begin; at < range.end;) {
        const int64_t left = cache.block_tokens - at % cache.block_tokens;
        const int64_t tokens = std::min({left, kRunTokens, range.end - at});
        const int64_t bytes = tokens * cache.head_dim * static_cast<int64_t>(sizeof(T));
        const T* next = at + tokens < range.end ? address(at + tokens) : nullptr;
        const char* from = reinterpret_cast<const char*>(next);
        Ahead ahead{from, next ? from + bytes : from};
        const Run<T> run{address(at), cache.head_dim, tokens, at - range.segment, bytes, &ahead};
        if (w.q.count > kTileRows) {
            body(convert_run(w.q, run, cache.head_dim));
        } else {
            body(run);
        }
        at += tokens;
    }
}

}  // namespace LMO_ISA
}  // namespace lmo
