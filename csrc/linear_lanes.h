// Products of many rows, lane by lane.
//
// A result is kLanes sums over every kLanes-th column each, joined in one order (linear_tile.h).
// Where a vector holds all lanes of one result, each vector of inputs and each of weights is loaded
// for a few products. Here it holds one lane of neighbouring results: an input is the same for all
// of them, and a tile of rows keeps the multipliers busy from the L1 cache.
//
//     for each place:  for each tile of rows:  sums over the steps, which then join those that wait
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

// A panel's weights, and the sums of every tile that wait.
struct LanePanel {
    int64_t k, tiles;
    float* floats;

    int64_t weights() const { return kLanes * panel_pitch(k); }
    int64_t size() const { return weights() + tiles * (kLaneLevels + 1) * kTileFloats; }
    const float* at(int64_t place) const { return floats + place * panel_pitch(k); }
    float* waiting(int64_t tile) const {
        return floats + weights() + tile * (kLaneLevels + 1) * kTileFloats;
    }
};

// What is asked for while a tile is computed: its share of the next panel's weights.
struct Ahead {
    const char* at;
    const char* end;

    void ask() {
        if (at < end) prefetch(at), at += kLineBytes;
    }
};

// One lane of a tile of R rows.
template <int R>
struct LaneTile {
    Vec sums[R][kPanelVectors];

    __attribute__((always_inline)) void add_step(const float* x, const float* weight) {
        Vec w[kPanelVectors];
        for (int v = 0; v < kPanelVectors; ++v) w[v] = load(weight + v * kLanes);
        for (int r = 0; r < R; ++r) {
            const Vec input = splat(x[r]);
            for (int v = 0; v < kPanelVectors; ++v) sums[r][v] = fma(w[v], input, sums[r][v]);
        }
    }

    __attribute__((always_inline)) void add_steps(const float* x, const float* weight,
                                                  int64_t steps, Ahead ahead) {
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

// One lane of one tile.
inline void lane_tile(const LaneInputs& inputs, const LanePanel& panel, int64_t place, int64_t tile,
                      const Ahead& ahead) {
    const float* x = inputs.at(place, tile);
    with_count<kLaneRows>(inputs.height(tile), [&](auto rows) {
        LaneTile<decltype(rows)::value> sums;
        sums.add_steps(x, panel.at(place), steps_of(panel.k), ahead);
        sums.join(panel.waiting(tile), joins_at(place));
    });
}

// Calls body(tile, ahead) for the tiles of one place.
template <class Body>
void each_tile(const LanePanel& panel, int64_t place, const char* next, int64_t bytes,
               const Body& body) {
    const int64_t share = bytes / (kLanes * panel.tiles);
    next += share * place * panel.tiles;
    for (int64_t tile = 0; tile < panel.tiles; ++tile, next += share) {
        body(tile, Ahead{next, next + share});
    }
}

inline void write_tile(const LaneInputs& inputs, const LanePanel& panel, const LinearArgs& a,
                       int64_t n, int64_t tile) {
    const float* sums = panel.waiting(tile) + kLaneLevels * kTileFloats;
    const Rows rows{inputs.first + inputs.begin(tile), inputs.height(tile)};
    write_rows<kPanelVectors>(a, rows, n, std::min(kPanel, a.n - n), sums);
}

template <class W>
void lane_chunk(const LaneInputs& inputs, const LinearArgs& a, const W* weight, int64_t n) {
    LanePanel panel{a.k, inputs.tiles, nullptr};
    panel.floats = scratch(Scratch::chunk, panel.size());
    widen_panel(a, weight, n, panel.floats);
    const int64_t bytes = kPanel * a.weight_stride * static_cast<int64_t>(sizeof(W));
    const char* next = reinterpret_cast<const char*>(weight + n * a.weight_stride) + bytes;
    for (int64_t place = 0; place < kLanes; ++place) {
        each_tile(panel, place, next, bytes, [&](int64_t tile, const Ahead& ahead) {
            lane_tile(inputs, panel, place, tile, ahead);
            if (place + 1 == kLanes) write_tile(inputs, panel, a, n, tile);
        });
    }
}

// Rows [first, first + count) times all weights.
inline void lane_block(const LinearRun& products, int64_t first, int64_t count) {
    LaneInputs inputs = lane_inputs(products.first(), first, count);
    inputs.floats = scratch(Scratch::job, inputs.size());
    parallel_for(inputs.tiles, inputs.a.threads,
                 [&](int64_t tile) { rearrange_tile(inputs, tile); });
    const auto panels = [](const LinearArgs& a) { return (a.n + kPanel - 1) / kPanel; };
    each_chunk(products, panels, [&](const LinearArgs& a, int64_t i) {
        with_type(a.weight_dtype, [&](auto* type) {
            lane_chunk(inputs, a, static_cast<decltype(type)>(a.weight), i * kPanel);
        });
    });
}

// The rows of a block: as few blocks as hold m, of nearly equal size.
inline int64_t lane_blocks(int64_t m) {
    constexpr int64_t most = kBlockTiles * kLaneRows;
    return (m + most - 1) / most;
}

inline void lane_linear(const LinearRun& products) {
    const int64_t m = products.first().m, blocks = lane_blocks(m);
    for (int64_t i = 0; i < blocks; ++i) {
        const int64_t first = m * i / blocks;
        lane_block(products, first, m * (i + 1) / blocks - first);
    }
}

inline int64_t lane_scratch_bytes(int64_t m, int64_t n, int64_t k, int threads) {
    LinearArgs sizes{};
    sizes.k = k;
    const int64_t count = (m + lane_blocks(m) - 1) / lane_blocks(m);
    const LaneInputs inputs = lane_inputs(sizes, 0, count);
    const int64_t used = std::min<int64_t>(threads, (n + kPanel - 1) / kPanel);
    const int64_t floats = inputs.size() + used * LanePanel{k, inputs.tiles, nullptr}.size();
    return floats * static_cast<int64_t>(sizeof(float));
}

}  // namespace LMO_ISA
}  // namespace lmo
