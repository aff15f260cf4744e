// Causal attention over a paged cache with a softmax that is summed up segment by segment
// (Milakov and Gimelshein, arXiv:1805.02867; Dao et al., arXiv:2205.14135).
#pragma once

#include "attention_float.h"
#include "attention_packed.h"
#include "isa_parts.h"
#include "thread_pool.h"

namespace lmo {
namespace LMO_ISA {

// cap * tanh(x / cap), with tanh(u) = 1 - 2 / (e^2u + 1).
inline Vec capped(Vec x, Vec cap) {
    const Vec u = x / cap;
    return cap * (splat(1.0f) - splat(2.0f) / (exp(u + u) + splat(1.0f)));
}

// The vectors of a segment that hold its range: [begin, end) from the segment's start.
struct Span {
    int64_t begin, end;
};

inline Span span_of(const Range& range) {
    return {range.begin - range.segment, range.end - range.segment};
}

// Caps the scores of one query, and hides the positions that its row may not see.
inline void mask(const Work& w, int64_t query, const Range& range) {
    const Span span = span_of(range);
    const int64_t position = w.tile.position + query / w.group;
    float* scores = w.scores + query * kScorePitch;
    if (w.a.softcap > 0.0f) {
        const Vec cap = splat(w.a.softcap * kLog2E);
        for (int64_t i = span.begin; i < span.end; i += kLanes) {
            store(scores + i, capped(load(scores + i), cap));
        }
    }
    const int64_t seen = std::max<int64_t>(0, position - w.a.window + 1);  // no window is the largest
    const int64_t oldest = std::clamp(seen - range.segment, span.begin, span.end);
    const int64_t newest = std::clamp(position + 1 - range.segment, span.begin, span.end);
    std::fill(scores + span.begin, scores + oldest, -INFINITY);
    std::fill(scores + newest, scores + span.end, -INFINITY);
}

// Scores of one query become weights relative to their largest. The lanes of a sum are counted
// from the segment's start, and hidden positions add an exact zero.
inline void soften(const Work& w, const Sums& sums, int64_t query, const Range& range) {
    const Span span = span_of(range);
    float* scores = w.scores + query * kScorePitch;
    Vec peaks = splat(-FLT_MAX);
    for (int64_t i = span.begin; i < span.end; i += kLanes) peaks = max(load(scores + i), peaks);
    const Vec peak = splat(largest(peaks));
    Vec total = zero();
    for (int64_t i = span.begin; i < span.end; i += kLanes) {
        const Vec weight = exp2(load(scores + i) - peak);
        store(scores + i, weight);
        total = total + weight;
    }
    sums.peak[query] = first(peak);
    sums.total[query] = sum(total);
}

inline void soften_all(const Work& w, const Sums& sums, const Range& range) {
    for (int64_t i = 0; i < w.count; ++i) {
        mask(w, i, range);
        soften(w, sums, i, range);
    }
}

template <class T>
inline void attend_floats(const Work& w, const Sums& sums, const Range& range,
                          const Blocks& blocks) {
    score_floats<T>(w, range, blocks);
    soften_all(w, sums, range);
    mix_floats<T>(w, range, blocks, sums.mixed);
}

template <int Bits>
inline void attend_packed(const Work& w, const Sums& sums, const Range& range,
                          const Blocks& blocks) {
    score_packed<Bits>(w, range, blocks);
    soften_all(w, sums, range);
    mix_packed<Bits>(w, range, blocks, sums.mixed);
}

// The sums of one segment, or of the first one overall: those before add nothing.
inline void attend_segment(const Work& w, const Sums& sums, int64_t segment) {
    const Range range = visible_range(w, segment);
    const Blocks blocks = blocks_of(w, range);
    std::fill_n(sums.mixed, w.count * w.pitch, 0.0f);
    if (w.a.cache.bits == 8) return attend_packed<8>(w, sums, range, blocks);
    if (w.a.cache.bits == 4) return attend_packed<4>(w, sums, range, blocks);
    with_type(w.a.cache.dtype, [&](auto* type) {
        using T = std::remove_const_t<std::remove_pointer_t<decltype(type)>>;
        attend_floats<T>(w, sums, range, blocks);
    });
}

inline void take_queries(const Work& w) {
    if (w.a.cache.bits == 8) return round_queries<8>(w);
    if (w.a.cache.bits == 4) return round_queries<4>(w);
    scale_queries(w);
}

inline float exp2_of(float x) { return first(exp2(splat(x))); }

// Adds a segment's sums to those of the segments before it.
inline void combine(const Work& w, const Sums& overall, const Sums& segment) {
    for (int64_t i = 0; i < w.count; ++i) {
        const float peak = std::max(overall.peak[i], segment.peak[i]);
        const float keep = exp2_of(overall.peak[i] - peak);
        const float add = exp2_of(segment.peak[i] - peak);
        overall.peak[i] = peak;
        overall.total[i] = overall.total[i] * keep + segment.total[i] * add;
        float* mixed = overall.mixed + i * w.pitch;
        const float* more = segment.mixed + i * w.pitch;
        for (int64_t d = 0; d < w.pitch; d += kLanes) {
            store(mixed + d, fma(load(more + d), splat(add), load(mixed + d) * splat(keep)));
        }
    }
}

// Writes one output, of which `mixed` are sixteens in the order of the cache's values.
template <class T>
inline void write_sixteens(const float* mixed, float factor, int64_t head_dim, float* out) {
    const Vec scale = splat(factor);
    const auto write = [&](int64_t d, float* to) {
        Sixteen x = load_sixteen(mixed + d);
        for (Vec& part : x.at) part = part * scale;
        store_sixteen<T>(to, x);
    };
    const int64_t whole = head_dim / kSixteen * kSixteen;
    for (int64_t d = 0; d < whole; d += kSixteen) write(d, out + d);
    if (whole == head_dim) return;
    float rest[kSixteen];
    write(whole, rest);
    std::copy_n(rest, head_dim - whole, out + whole);
}

inline float sink_of(const AttentionArgs& a, int64_t head) {
    float found = 0.0f;
    with_type(a.sinks_dtype, [&](auto* type) {
        found = first(load(static_cast<decltype(type)>(a.sinks) + head, Part{1}));
    });
    return found;
}

// Each head's score for nothing takes its share of the weights.
inline void add_sinks(const Work& w) {
    for (int64_t i = 0; i < w.count; ++i) {
        const float score = sink_of(w.a, w.kv_head * w.group + i % w.group) * kLog2E;
        const float above = score - w.overall.peak[i];
        w.overall.total[i] += above <= 0.0f ? exp2_of(above) : 1.0f / exp2_of(-above);
    }
}

inline void write_out(const Work& w) {
    const Cache& cache = w.a.cache;
    const bool is_bf16 = cache.bits == 0 && cache.dtype == Dtype::bf16;
    if (w.a.sinks) add_sinks(w);
    for (int64_t i = 0; i < w.count; ++i) {
        const int64_t row = w.tile.row + i / w.group;
        const int64_t head = w.kv_head * w.group + i % w.group;
        const float factor = 1.0f / w.overall.total[i];
        const float* mixed = w.overall.mixed + i * w.pitch;
        float* out = w.a.out + row * w.a.out_stride + head * w.a.out_head_stride;
        if (is_bf16) {
            write_sixteens<Bf16>(mixed, factor, cache.head_dim, out);
        } else {
            write_sixteens<float>(mixed, factor, cache.head_dim, out);
        }
    }
}

// Enough tiles for all threads: each walks its segments by itself.
inline void attend_by_tile(const AttentionArgs& a, const Tile* tiles, int64_t items) {
    parallel_for(items, a.threads, [&](int64_t item) {
        const Tile& tile = tiles[item / a.cache.kv_heads];
        const Work w = make_work(a, tile, item % a.cache.kv_heads);
        take_queries(w);
        attend_segment(w, w.overall, tile.first_segment);
        for (int64_t s = tile.first_segment + 1; s < tile.last_segment; ++s) {
            attend_segment(w, w.segment, s);
            combine(w, w.overall, w.segment);
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
        const Work w = make_work(a, tile, item % heads);
        take_queries(w);
        attend_segment(w, kept.at(item, index, w.count), segment);
    });
    parallel_for(items, a.threads, [&](int64_t item) {
        const Tile& tile = tiles[item / heads];
        const Work w = make_work(a, tile, item % heads);
        clear(w, w.overall);
        const int64_t seen = tile.last_segment - tile.first_segment;
        for (int64_t s = 0; s < seen; ++s) combine(w, w.overall, kept.at(item, s, w.count));
        write_out(w);
    });
}

// Working memory of the job: the tiles and, where segments are shared out, their sums; fewer
// than 2 * threads tiles and heads are.
void attention(const AttentionArgs& a) {
    const TileCounts counts = count_tiles(a);
    const int64_t items = counts.tiles * a.cache.kv_heads;
    const int64_t tile_floats = (counts.tiles * sizeof(Tile) + 63) / 64 * 16;
    const int64_t size =
        sums_size(counts.rows * (a.heads / a.cache.kv_heads), pitch_of(a.cache.head_dim));
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
