// Inputs and weights as linear_lanes.h meets them: lane by lane, in the order of lane_order.h.
//
//     inputs of a block of rows    [place][tile of rows][step][row]      once for all weights
//     weights of a panel           [place][step][result of the panel]    once for all rows
//
// A step is a vector of columns, of which a place takes one lane (lane_kinds.h).
#pragma once

#include "lane_order.h"
#include "linear_tile.h"

namespace lmo {
namespace LMO_ISA {

constexpr int kPanelVectors = 2;
constexpr int64_t kPanel = kPanelVectors * kLanes;    // results side by side
constexpr int kLaneRows = kRegisters == 32 ? 12 : 6;  // of a tile: its sums leave a few registers
constexpr int64_t kBlockTiles = 12;                   // whose inputs stay in the L2 cache

template <class K>
constexpr int64_t steps_of(int64_t k) {
    return (k + K::kColumns - 1) / K::kColumns;
}

// Rows [first, first + count) of a product's inputs, in tiles of nearly equal height.
struct LaneInputs {
    const LinearArgs& a;
    int64_t steps;
    int64_t first, tiles, least;  // rows of each tile
    int64_t higher;               // tiles at the beginning that have one more
    float* floats;

    int64_t begin(int64_t tile) const { return tile * least + std::min(tile, higher); }
    int64_t height(int64_t tile) const { return tile < higher ? least + 1 : least; }
    // The end of the tiles from this one on that are as high.
    int64_t same_height(int64_t tile) const { return tile < higher ? higher : tiles; }
    // A vector more than its rows need: the last one that is stored reaches behind them.
    int64_t pitch() const { return steps * kLaneRows + kLanes; }
    int64_t size() const { return kLanes * tiles * pitch(); }
    float* at(int64_t place, int64_t tile) const {
        return floats + (place * tiles + tile) * pitch();
    }
};

inline LaneInputs lane_inputs(const LinearArgs& a, int64_t steps, int64_t first, int64_t count) {
    const int64_t tiles = (count + kLaneRows - 1) / kLaneRows;
    return {a, steps, first, tiles, count / tiles, count % tiles, nullptr};
}

template <class K>
void rearrange_tile(const LaneInputs& inputs, int64_t tile) {
    const LinearArgs& a = inputs.a;
    const int64_t height = inputs.height(tile);
    const float* x = a.x + (inputs.first + inputs.begin(tile)) * a.x_stride;
    each_step<K::kColumns>(a.k, [&](int64_t column, auto span) {
        Vec v[kLanes];
        for (int64_t r = 0; r < kLanes; ++r) {
            v[r] = r < height ? K::input(x + r * a.x_stride + column, span) : zero();
        }
        transpose(v);
        const int64_t step = column / K::kColumns * height;
        for (int64_t lane = 0; lane < kLanes; ++lane) {
            store(inputs.at(place_of(lane), tile) + step, v[lane]);
        }
    });
}
static_assert(kLaneRows <= kLanes);

// A line more than a place needs: places do not meet in a few sets of the L1 cache's lines.
constexpr int64_t panel_pitch(int64_t steps) { return (steps + 2) * kPanel; }

// One vector of columns of the first `count` rows of weights, zeros in place of others.
template <class W, class Span>
inline void widen_step(const W* weight, int64_t stride, int64_t count, Span span, float* panel,
                       int64_t pitch) {
    Vec v[kLanes];
#pragma GCC unroll 16
    for (int r = 0; r < kLanes; ++r) {
        v[r] = r < count ? Kind<W>::weight(weight + r * stride, span) : zero();
    }
    transpose(v);
#pragma GCC unroll 16
    for (int lane = 0; lane < kLanes; ++lane) store(panel + place_of(lane) * pitch, v[lane]);
}

// Two vectors of columns of kLanes rows: half of the exchanges, for they move two at a time.
inline void widen_two_steps(const Bf16* weight, int64_t stride, float* panel, int64_t pitch) {
    Vec v[kLanes];
#pragma GCC unroll 16
    for (int r = 0; r < kLanes; ++r) {
        v[r] = load(reinterpret_cast<const float*>(weight + r * stride));
    }
    transpose(v);
#pragma GCC unroll 16
    for (int pair = 0; pair < kLanes; ++pair) {
        const int lane = 2 * pair % static_cast<int>(kLanes);
        float* step = panel + 2 * pair / kLanes * kPanel;
        store(step + place_of(lane) * pitch, first_halves(v[pair]));
        store(step + place_of(lane + 1) * pitch, second_halves(v[pair]));
    }
}

// The first `count` rows of weights [kLanes, k].
template <class W>
void widen_rows(const W* weight, int64_t stride, int64_t count, int64_t k, float* panel) {
    constexpr int64_t step = Kind<W>::kColumns;
    const int64_t pitch = panel_pitch(steps_of<Kind<W>>(k));
    int64_t i = 0;
    if constexpr (std::is_same_v<W, Bf16> && step == kLanes) {
        for (; count == kLanes && i + 2 * kLanes <= k; i += 2 * kLanes, panel += 2 * kPanel) {
            widen_two_steps(weight + i, stride, panel, pitch);
        }
    }
    for (; count == kLanes && i + step <= k; i += step, panel += kPanel) {
        widen_step(weight + i, stride, kLanes, Whole{}, panel, pitch);
    }
    for (; i < k; i += step, panel += kPanel) {
        widen_step(weight + i, stride, count, Part{std::min(step, k - i)}, panel, pitch);
    }
}

// Weights [n, n + kPanel).
template <class W>
void widen_panel(const LinearArgs& a, const W* weight, int64_t n, float* panel) {
    for (int64_t v = 0; v < kPanel; v += kLanes) {
        const int64_t count = std::clamp<int64_t>(a.n - n - v, 0, kLanes);
        widen_rows(weight + (n + v) * a.weight_stride, a.weight_stride, count, a.k, panel + v);
    }
}

}  // namespace LMO_ISA
}  // namespace lmo
