// One piece of attention: a tile of queries, one KV head, and the cached tokens it sees.
#pragma once

#include <cfloat>

#include "attention_tile.h"
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

inline Work make_work(const AttentionArgs& a, const Tile& tile, int64_t kv_head) {
    const int64_t group = a.heads / a.cache.kv_heads;
    const int64_t count = tile.rows * group;
    const int64_t pitch = vector_pitch(a.cache.head_dim);
    const int64_t sums = sums_size(count, pitch);
    float* memory = scratch(Scratch::chunk, count * (pitch + kScorePitch) + kRunTokens * pitch +
                                                2 * sums);
    float* scores = memory + count * pitch;
    float* converted = scores + count * kScorePitch;
    float* rest = converted + kRunTokens * pitch;
    return {a, tile, kv_head, group, {count, pitch, memory, scores, converted},
            sums_in(rest, count), sums_in(rest + sums, count)};
}

inline void clear(const Sums& sums, const Queries& q) {
    std::fill_n(sums.peak, q.count, -FLT_MAX);  // finite: a row without keys stays at zero
    std::fill_n(sums.total, q.count, 0.0f);
    std::fill_n(sums.mixed, q.count * q.pitch, 0.0f);
}

inline void pack_queries(const Work& w) {
    const Vec scale = splat(w.a.scale);
    for (int64_t i = 0; i < w.q.count; ++i) {
        const int64_t row = w.tile.row + i / w.group;
        const int64_t head = w.kv_head * w.group + i % w.group;
        const float* from = w.a.q + row * w.a.q_stride + head * w.a.q_head_stride;
        float* to = w.q.packed + i * w.q.pitch;
        each_vector(w.a.cache.head_dim, [&](int64_t d, auto span) {
            store(to + d, load(from + d, span) * scale);
        });
    }
}

// Positions [begin, end) of a segment that some row of the tile sees.
struct Range {
    int64_t segment, begin, end;  // the segment's first position; absolute positions
};

inline Range visible_range(const Work& w, int64_t segment) {
    const int64_t start = segment * kSegmentTokens;
    const int64_t oldest = std::max<int64_t>(0, w.tile.position - w.a.window + 1);
    return {start, std::max(start, oldest),
            std::min(start + kSegmentTokens, w.tile.position + w.tile.rows)};
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
