// Causal attention over a paged cache with a softmax that is summed up segment by segment
// (Milakov and Gimelshein, arXiv:1805.02867; Dao et al., arXiv:2205.14135).
#pragma once

#include "attention_packed.h"
#include "thread_pool.h"

namespace lmo {
namespace LMO_ISA {

// cap * tanh(x / cap), with tanh(u) = 1 - 2 / (e^2u + 1).
inline Vec capped(Vec x, Vec cap) {
    const Vec u = x / cap;
    return cap * (splat(1.0f) - splat(2.0f) / (exp(u + u) + splat(1.0f)));
}

// The vectors of a segment that hold its range: [begin, end) from the segment's start.
struct Lanes {
    int64_t begin, end;
};

inline Lanes lanes_of(const Range& range) {
    return {(range.begin - range.segment) / kLanes * kLanes,
            vector_pitch(range.end - range.segment)};
}

// Caps the scores of one query, and hides the positions that its row may not see.
inline void mask(const Work& w, int64_t query, const Range& range) {
    const Lanes lanes = lanes_of(range);
    const int64_t position = w.tile.position + query / w.group - range.segment;
    float* scores = w.q.scores + query * kScorePitch;
    if (w.a.softcap > 0.0f) {
        const Vec cap = splat(w.a.softcap);
        for (int64_t i = lanes.begin; i < lanes.end; i += kLanes) {
            store(scores + i, capped(load(scores + i), cap));
        }
    }
    const int64_t oldest = std::clamp(position - w.a.window + 1, lanes.begin, lanes.end);
    const int64_t newest = std::clamp(position + 1, lanes.begin, lanes.end);
    std::fill(scores + lanes.begin, scores + oldest, -INFINITY);
    std::fill(scores + newest, scores + lanes.end, -INFINITY);
}

// Scores of one query become weights relative to their largest. The lanes of a sum are counted
// from the segment's start, and hidden positions add an exact zero.
inline void soften(const Work& w, int64_t query, const Range& range) {
    const Lanes lanes = lanes_of(range);
    float* scores = w.q.scores + query * kScorePitch;
    Vec peaks = splat(-FLT_MAX);
    for (int64_t i = lanes.begin; i < lanes.end; i += kLanes) {
        peaks = max(load(scores + i), peaks);
    }
    const Vec peak = splat(largest(peaks));
    Vec total = zero();
    for (int64_t i = lanes.begin; i < lanes.end; i += kLanes) {
        const Vec weight = exp(load(scores + i) - peak);
        store(scores + i, weight);
        total = total + weight;
    }
    w.segment.peak[query] = first(peak);
    w.segment.total[query] = sum(total);
}

inline void soften_all(const Work& w, const Range& range) {
    for (int64_t i = 0; i < w.q.count; ++i) {
        mask(w, i, range);
        soften(w, i, range);
    }
}

template <int Bits>
inline void attend_records(const Work& w, const Range& range) {
    const Records records = records_of(w, range);
    score_records<Bits>(w, range, records);
    soften_all(w, range);
    mix_records<Bits>(w, range, records);
}

inline void attend_segment(const Work& w, int64_t segment) {
    const Range range = visible_range(w, segment);
    const int64_t head_dim = w.a.cache.head_dim;
    clear(w.segment, w.q);
    if (w.a.cache.bits == 8) return attend_records<8>(w, range);
    if (w.a.cache.bits == 4) return attend_records<4>(w, range);
    with_type(w.a.cache.dtype, [&](auto* type) {
        using Data = decltype(type);
        each_run(w, static_cast<Data>(w.a.cache.keys), range,
                 [&](const auto& run) { score_run(w.q, run, head_dim); });
        soften_all(w, range);
        each_run(w, static_cast<Data>(w.a.cache.values), range,
                 [&](const auto& run) { mix_run(w.q, run, head_dim, w.segment.mixed); });
    });
}

inline float exp_of(float x) { return first(exp(splat(x))); }

// Adds a segment's sums to those of the segments before it.
inline void combine(const Queries& q, const Sums& overall, const Sums& segment) {
    for (int64_t i = 0; i < q.count; ++i) {
        const float peak = std::max(overall.peak[i], segment.peak[i]);
        const float keep = exp_of(overall.peak[i] - peak);
        const float add = exp_of(segment.peak[i] - peak);
        overall.peak[i] = peak;
        overall.total[i] = overall.total[i] * keep + segment.total[i] * add;
        float* mixed = overall.mixed + i * q.pitch;
        const float* more = segment.mixed + i * q.pitch;
        for (int64_t d = 0; d < q.pitch; d += kLanes) {
            store(mixed + d, fma(load(more + d), splat(add), load(mixed + d) * splat(keep)));
        }
    }
}

inline void write_out(const Work& w) {
    for (int64_t i = 0; i < w.q.count; ++i) {
        const int64_t row = w.tile.row + i / w.group;
        const int64_t head = w.kv_head * w.group + i % w.group;
        const Vec factor = splat(1.0f / w.overall.total[i]);
        const float* from = w.overall.mixed + i * w.q.pitch;
        float* to = w.a.out + row * w.a.out_stride + head * w.a.out_head_stride;
        each_vector(w.a.cache.head_dim, [&](int64_t d, auto span) {
            store(to + d, load(from + d) * factor, span);
        });
    }
}

inline void take_queries(const Work& w) {
    if (w.a.cache.bits == 8) return round_queries<8>(w);
    if (w.a.cache.bits == 4) return round_queries<4>(w);
    pack_queries(w);
}

// Enough tiles for all threads: each walks its segments by itself.
inline void attend_by_tile(const AttentionArgs& a, const Tile* tiles, int64_t items) {
    parallel_for(items, a.threads, [&](int64_t item) {
        const Tile& tile = tiles[item / a.cache.kv_heads];
        const Work w = make_work(a, tile, item % a.cache.kv_heads);
        take_queries(w);
        clear(w.overall, w.q);
        for (int64_t s = tile.first_segment; s < tile.last_segment; ++s) {
            attend_segment(w, s);
            combine(w.q, w.overall, w.segment);
        }
        write_out(w);
    });
}

// Sums of every segment of every tile and KV head, kept until all are there.
struct Kept {
    float* memory;
    int64_t segments, size;  // most segments of any tile; floats of one segment's sums

    Sums at(int64_t item, int64_t segment, int64_t count) const {
        return sums_in(memory + (item * segments + segment) * size, count);
    }
};

// Few tiles with long contexts: their segments are shared out among the threads.
inline void attend_by_segment(const AttentionArgs& a, const Tile* tiles, int64_t items,
                              const Kept& kept) {
    const int64_t heads = a.cache.kv_heads;
    parallel_for(items * kept.segments, a.threads, [&](int64_t chunk) {
        const int64_t item = chunk / kept.segments, index = chunk % kept.segments;
        const Tile& tile = tiles[item / heads];
        const int64_t segment = tile.first_segment + index;
        if (segment >= tile.last_segment) return;
        Work w = make_work(a, tile, item % heads);
        w.segment = kept.at(item, index, w.q.count);
        take_queries(w);
        attend_segment(w, segment);
    });
    parallel_for(items, a.threads, [&](int64_t item) {
        const Tile& tile = tiles[item / heads];
        const Work w = make_work(a, tile, item % heads);
        clear(w.overall, w.q);
        const int64_t seen = tile.last_segment - tile.first_segment;
        for (int64_t s = 0; s < seen; ++s) combine(w.q, w.overall, kept.at(item, s, w.q.count));
        write_out(w);
    });
}

// Working memory of the job: the tiles and, where segments are shared out, their sums; fewer
// than 2 * threads tiles and heads are.
inline void attention(const AttentionArgs& a) {
    const TileCounts counts = count_tiles(a);
    const int64_t items = counts.tiles * a.cache.kv_heads;
    const int64_t tile_floats = (counts.tiles * sizeof(Tile) + 63) / 64 * 16;
    const int64_t size =
        sums_size(counts.rows * (a.heads / a.cache.kv_heads), vector_pitch(a.cache.head_dim));
    const bool shared = items < 2 * a.threads && counts.most_segments > 1;
    const int64_t kept_floats = shared ? items * counts.most_segments * size : 0;
    float* memory = scratch(Scratch::job, tile_floats + kept_floats);
    Tile* tiles = reinterpret_cast<Tile*>(memory);
    fill_tiles(a, tiles);
    if (shared) {
        attend_by_segment(a, tiles, items, {memory + tile_floats, counts.most_segments, size});
    } else {
        attend_by_tile(a, tiles, items);
    }
}

}  // namespace LMO_ISA
}  // namespace lmo
