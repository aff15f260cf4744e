// One piece of attention: a tile of queries, one KV head, and the cached blocks that it sees.
#pragma once

#include "attention_plan.h"
#include "kv_record.h"
#include "scratch.h"

namespace lmo {
namespace LMO_ISA {

constexpr int64_t kSixteen = 16;  // elements that are computed together, in one vector or two
constexpr int64_t kScorePitch = kSegmentTokens + kLanes;  // an odd number of cache lines
constexpr float kLog2E = 1.44269504f;                     // the softmax is one of powers of two

// Sums of a segment or of all segments so far: softmax numerators relative to 2^peak.
struct Sums {
    float* peak;   // [count]
    float* total;  // [count]
    float* mixed;  // [count][pitch], in the order in which the cache's values are read
};

// One tile and one KV head, in the working memory of the thread that computes it. Query i of
// `count` is row i / group of the tile, head i % group of the KV head.
struct Work {
    const AttentionArgs& a;
    Tile tile;
    int64_t kv_head, group, count;
    int64_t pitch;   // head_dim in whole sixteens
    float* scores;   // [count][kScorePitch], one segment
    float* queries;  // [count][query_floats], as the kind of cache needs them
    Sums segment, overall;
};

inline int64_t pitch_of(int64_t width) {
    return (width + kSixteen - 1) / kSixteen * kSixteen;
}

inline int64_t sums_size(int64_t count, int64_t pitch) { return count * (pitch + 2); }

inline Sums sums_in(float* memory, int64_t count) {
    return {memory, memory + count, memory + 2 * count};
}

// Working memory of one query beside its scores and sums: the query itself, or, for a quantized
// cache, what attention_packed.h makes of it.
inline int64_t query_floats(const Cache& cache) {
    const int64_t groups = (cache.head_dim + kGroupChannels - 1) / kGroupChannels;
    if (cache.bits == 0) return cache.head_dim;
    return cache.head_dim / 2 + 1 + groups * (kWeightTokens / 2 + 3);
}

inline Work make_work(const AttentionArgs& a, const Tile& tile, int64_t kv_head) {
    const int64_t group = a.heads / a.cache.kv_heads, count = tile.rows * group;
    const int64_t pitch = pitch_of(a.cache.head_dim), sums = sums_size(count, pitch);
    float* memory = scratch(Scratch::chunk,
                            count * (kScorePitch + query_floats(a.cache)) + 2 * sums);
    float* segment = memory + count * kScorePitch;
    return {a, tile, kv_head, group, count, pitch, memory, segment + 2 * sums,
            sums_in(segment, count), sums_in(segment + sums, count)};
}

inline void clear(const Work& w, const Sums& sums) {
    std::fill_n(sums.peak, w.count, -FLT_MAX);  // finite: a row without keys stays at zero
    std::fill_n(sums.total, w.count, 0.0f);
    std::fill_n(sums.mixed, w.count * w.pitch, 0.0f);
}

// Calls body(i, q) for the queries of the work.
template <class Body>
inline void each_query(const Work& w, const Body& body) {
    for (int64_t i = 0; i < w.count; ++i) {
        const int64_t row = w.tile.row + i / w.group;
        const int64_t head = w.kv_head * w.group + i % w.group;
        body(i, w.a.q + row * w.a.q_stride + head * w.a.q_head_stride);
    }
}

constexpr int kSharing = kRegisters / 4;  // queries that share what is loaded of a block

// Calls body(count, query) with `kSharing` queries at a time and up to 4 of the rest, the count as
// a constant.
template <class Body>
inline void each_few(const Work& w, const Body& body) {
    int64_t query = 0;
    for (; query + kSharing <= w.count; query += kSharing) {
        body(std::integral_constant<int, kSharing>(), query);
    }
    for (; query < w.count; query += 4) {
        with_count<4>(std::min<int64_t>(4, w.count - query),
                      [&](auto count) { body(count, query); });
    }
}

// Positions of a segment that some row of the tile sees: all of those in [first, last), which the
// blocks of [begin, end) hold.
struct Range {
    int64_t segment;  // its first position
    int64_t begin, end, first, last;

    int64_t blocks() const { return (end - begin) / kBlockTokens; }
    int64_t offset() const { return begin - segment; }
};

inline Range visible_range(const Work& w, int64_t segment) {
    const int64_t start = segment * kSegmentTokens;
    const int64_t first = std::max(start, std::max<int64_t>(0, w.tile.position - w.a.window + 1));
    const int64_t last = std::min(start + kSegmentTokens, w.tile.position + w.tile.rows);
    const int64_t end = (last + kBlockTokens - 1) / kBlockTokens * kBlockTokens;
    return {start, first / kBlockTokens * kBlockTokens, end, first, last};
}

// Addresses of what a segment reads: blocks of keys, then blocks of values, in order of position,
// and then the first of what comes next.
struct Blocks {
    static constexpr int64_t kMost = kSegmentTokens / kBlockTokens;
    // How many blocks before they are read they are asked for: into the second level, and from
    // there into the first. Asked for into the first at once, fewer lines can be on their way.
    static constexpr int64_t kFar = 8, kNear = 2;
    static constexpr int64_t kFloatsFar = 4;  // which are larger

    int64_t count;
    const uint8_t* at[2 * kMost + kFar];

    const uint8_t* const* keys() const { return at; }
    const uint8_t* const* values() const { return at + count; }
};

inline Blocks blocks_of(const Work& w, const Range& range) {
    const Cache& cache = w.a.cache;
    const int32_t* table = w.a.block_tables + w.tile.sequence * w.a.table_stride;
    const int64_t first = range.begin / kBlockTokens;
    const int64_t newest = (w.tile.position + w.tile.rows - 1) / kBlockTokens;
    const auto at = [&](const void* part, int64_t block) {
        return static_cast<const uint8_t*>(part) + w.kv_head * cache.head_stride +
               table[std::min(block, newest)] * cache.block_stride;
    };
    Blocks blocks;
    blocks.count = range.blocks();
    for (int64_t i = 0; i < blocks.count; ++i) {
        blocks.at[i] = at(cache.keys, first + i);
        blocks.at[blocks.count + i] = at(cache.values, first + i);
    }
    for (int64_t i = 0; i < Blocks::kFar; ++i) {
        blocks.at[2 * blocks.count + i] = at(cache.keys, first + blocks.count + i);
    }
    return blocks;
}

}  // namespace LMO_ISA
}  // namespace lmo
