// Products of many rows, lane by lane.
//
// A result is kLanes sums over every kLanes-th column each, joined in one order (linear_tile.h).
// Where a vector holds all lanes of one result, each vector of inputs and each of weights is loaded
// for a few products. Here it holds one lane of neighbouring results: an input is the same for all
// of them, and a tile of rows keeps the multipliers busy from the L1 cache.
//
//     for each tile of rows:  for each place:  sums over the steps, which then join those that wait
//
//     place    0    1       2    3             4 ...     sums of one, two, four ... lanes wait in
//     waits    0    0+1     2    2+3 -> 0..3   4         levels 0, 1, 2 ..., as digits of a counter
//
// That is the order of sum(): bits are those of linear_tile.h.
#pragma once

#include "lane_operands.h"
#include "packed_codes.h"
#include "product_chunks.h"
#include "scratch.h"
#include "write_rows.h"

namespace lmo {
namespace LMO_ISA {

constexpr int64_t kTileFloats = kLaneRows * kPanel;

constexpr int64_t kCachedBytes = 1 << 20;  // of a panel that stays in the L2 cache
constexpr int64_t kTogether = 4;           // tiles that share the lanes of a larger one

// A panel's weights, and the sums that wait of tiles that are computed together.
struct LanePanel {
    int64_t steps;
    float* floats;

    int64_t weights() const { return kLanes * panel_pitch(steps); }
    int64_t together() const {
        return weights() * static_cast<int64_t>(sizeof(float)) > kCachedBytes ? kTogether : 1;
    }
    int64_t size() const { return weights() + together() * (kLaneLevels + 1) * kTileFloats; }
    const float* at(int64_t place) const { return floats + place * panel_pitch(steps); }
    float* waiting(int64_t i) const {
        return floats + weights() + i * (kLaneLevels + 1) * kTileFloats;
    }
    const float* sums(int64_t i) const { return waiting(i) + kLaneLevels * kTileFloats; }
};

// What is asked for while a tile is computed: its share of the next panel's weights, in every turn
// the `Lines` that the next `bytes` of it may touch.
template <int Lines>
struct Ahead {
    const char* at;
    int64_t bytes;

    void ask() {
        for (int i = 0; i < Lines; ++i) prefetch(at + i * kLineBytes);
        at += bytes;
    }
};

// One lane of a tile of R rows.
template <class K, int R>
struct LaneTile {
    Vec sums[R][kPanelVectors];

    __attribute__((always_inline)) void add_step(const float* x, const float* weight) {
        Vec w[kPanelVectors];
        for (int v = 0; v < kPanelVectors; ++v) w[v] = load(weight + v * kLanes);
        for (int r = 0; r < R; ++r) {
            const Vec input = splat(x[r]);
            for (int v = 0; v < kPanelVectors; ++v) sums[r][v] = K::add(w[v], input, sums[r][v]);
        }
    }

    template <int Lines>
    __attribute__((always_inline)) void add_steps(const float* x, const float* weight,
                                                  int64_t steps, Ahead<Lines> ahead) {
        for (auto& row : sums) {
            for (Vec& sum : row) sum = zero();
        }
        for (; steps >= 2; steps -= 2, x += 2 * R, weight += 2 * kPanel) {
            ahead.ask();
            add_step(x, weight);
            add_step(x + R, weight + kPanel);
        }
        if (steps) add_step(x, weight);
    }

    // Adds the sums of `joins` levels and waits in the next one.
    __attribute__((always_inline)) void join(float* waiting, int joins) {
        for (; joins > 0; --joins, waiting += kTileFloats) {
            const float* other = waiting;
            for (auto& row : sums) {
                for (Vec& sum : row) sum = load(other) + sum, other += kLanes;
            }
        }
        for (const auto& row : sums) {
            for (const Vec& sum : row) store(waiting, sum), waiting += kLanes;
        }
    }
};

// All lanes of tiles [first, end), of one height; each asks for its share of the `bytes` at `next`.
template <class K, int Lines>
void lane_tiles(const LaneInputs& inputs, const LanePanel& panel, int64_t first,
                       int64_t end, const char* next, int64_t bytes) {
    const int64_t share = bytes / (kLanes * (end - first));
    const int64_t turns = std::max<int64_t>(1, panel.steps / 2);
    const int64_t in_turn = (share + turns - 1) / turns;
    with_count<kLaneRows>(inputs.height(first), [&](auto rows) {
        for (int64_t place = 0; place < kLanes; ++place) {
            for (int64_t tile = first; tile < end; ++tile, next += share) {
                LaneTile<K, decltype(rows)::value> sums;
                sums.add_steps(inputs.at(place, tile), panel.at(place), panel.steps,
                               Ahead<Lines>{next, in_turn});
                sums.join(panel.waiting(tile - first), joins_at(place));
            }
        }
    });
}

// The fewer tiles there are, the more lines each of them asks for at a time: none is left over.
template <class K>
void asking_tiles(const LaneInputs& inputs, const LanePanel& panel, int64_t first, int64_t end,
                  const char* next, int64_t bytes) {
    const int64_t turns = kLanes * (end - first) * (panel.steps / 2);
    const int64_t lines = bytes / kLineBytes;
    if (lines <= turns) return lane_tiles<K, 1>(inputs, panel, first, end, next, bytes);
    if (lines <= 2 * turns) return lane_tiles<K, 2>(inputs, panel, first, end, next, bytes);
    lane_tiles<K, 4>(inputs, panel, first, end, next, bytes);
}

// A block of rows times weights [n, n + kPanel), while the next ones are asked for.
template <class W>
void lane_chunk(const LaneInputs& inputs, const LinearArgs& a, const W* weight, int64_t n) {
    LanePanel panel{inputs.steps, nullptr};
    panel.floats = scratch(Scratch::chunk, panel.size());
    widen_panel(a, weight, n, panel.floats);
    const int64_t bytes = kPanel * a.weight_stride * static_cast<int64_t>(sizeof(W));
    const int64_t share = bytes / inputs.tiles;
    const char* next = reinterpret_cast<const char*>(weight + n * a.weight_stride) + bytes;
    for (int64_t first = 0, end; first < inputs.tiles; first = end) {
        end = std::min(first + panel.together(), inputs.same_height(first));
        asking_tiles<Kind<W>>(inputs, panel, first, end, next + first * share,
                               (end - first) * share);
        for (int64_t tile = first; tile < end; ++tile) {
            const Rows rows{inputs.first + inputs.begin(tile), inputs.height(tile)};
            const int64_t count = std::min(kPanel, a.n - n);
            write_rows<kPanelVectors>(a, rows, n, count, panel.sums(tile - first));
        }
    }
}

// Rows [first, first + count) times all weights.
template <class W>
void lane_block(const LinearRun& products, int64_t first, int64_t count) {
    const LinearArgs& any = products.first();
    LaneInputs inputs = lane_inputs(any, steps_of<Kind<W>>(any.k), first, count);
    inputs.floats = scratch(Scratch::job, inputs.size());
    parallel_for(inputs.tiles, any.threads,
                 [&](int64_t tile) { rearrange_tile<Kind<W>>(inputs, tile); });
    const auto panels = [](const LinearArgs& a) { return (a.n + kPanel - 1) / kPanel; };
    each_chunk(products, panels, [&](const LinearArgs& a, int64_t i) {
        lane_chunk(inputs, a, static_cast<const W*>(a.weight), i * kPanel);
    });
}

// The rows of a block: as few blocks as hold m, of nearly equal size.
inline int64_t lane_blocks(int64_t m) {
    constexpr int64_t most = kBlockTiles * kLaneRows;
    return (m + most - 1) / most;
}

template <class W>
void lane_linear(const LinearRun& products) {
    const int64_t m = products.first().m, blocks = lane_blocks(m);
    for (int64_t i = 0; i < blocks; ++i) {
        const int64_t first = m * i / blocks;
        lane_block<W>(products, first, m * (i + 1) / blocks - first);
    }
}

// The most, which weights take that are multiplied as floats.
inline int64_t lane_scratch_bytes(int64_t m, int64_t n, int64_t k, int threads) {
    const int64_t count = (m + lane_blocks(m) - 1) / lane_blocks(m), steps = steps_of<Singles>(k);
    const LaneInputs inputs = lane_inputs(LinearArgs{}, steps, 0, count);
    const int64_t used = std::min<int64_t>(threads, (n + kPanel - 1) / kPanel);
    const int64_t floats = inputs.size() + used * LanePanel{steps, nullptr}.size();
    return floats * static_cast<int64_t>(sizeof(float));
}

}  // namespace LMO_ISA
}  // namespace lmo
