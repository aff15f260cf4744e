// A block of quantized rows, the packed weights that it meets step by step, and what becomes of its
// sums; included per instruction set.
#pragma once

#include "cpu_features.h"
#include "linear_impl.h"
#include "packed_quantize.h"
#include "packed_tile.h"
#include "write_rows.h"

namespace lmo {
namespace LMO_ISA {

// A block of quantized rows and the weights that it is multiplied with.
template <class Codes>
struct PackedWork {
    const PackedArgs& a;
    int64_t first_row, rows;
    const typename Codes::Inputs* x;  // [k / 64][rows]
    int64_t tile_bytes;
};

template <class Codes>
constexpr int64_t factor_bytes() {
    return (Codes::kMinimums ? 2 : 1) * kFactorBytes<Codes>;
}

// Tiles side by side that are computed together: whole vectors of them, or a single one.
struct Tiling {
    int64_t first, count;

    int64_t outputs(int64_t n) const {
        return std::min((first + count) * kTileLanes, n) - first * kTileLanes;
    }
};

inline int64_t tiles_of(const PackedArgs& a) { return (a.n + kTileLanes - 1) / kTileLanes; }

// Calls body(vectors, tiles) for tiles [tile, end): two vectors of them at a time, then one.
template <class Body>
void each_tiling(int64_t tile, int64_t end, const Body& body) {
    for (; tile + kPackedTiles <= end; tile += kPackedTiles) {
        body(std::integral_constant<int, kPackedVectors>(), Tiling{tile, kPackedTiles});
    }
    for (int64_t count; tile < end; tile += count) {
        count = std::min(kTilesPerVector, end - tile);
        body(std::integral_constant<int, 1>(), Tiling{tile, count});
    }
}

// What is asked for ahead of its use: later columns of the same tiles and behind the last ones the
// first columns of the tiles that come next, or, with vectors of one tile, which are limited by
// instructions, columns of tiles that come next.
constexpr bool kAsksColumns = kTilesPerVector > 1;
constexpr int64_t kAheadColumns = 1 << 10;  // in bytes of a tile; twice that with few streams
constexpr int64_t kAheadTiles = 16 << 10;
constexpr int64_t kFarBytes = 256 << 10;
constexpr int64_t kNearBytes = 2 << 10;

// Bytes from what is read at `offset` in tiles that take `pitch` bytes together to what is asked for.
// Tiles that come next do for a single row only if they do not leave the L2 cache again.
inline int64_t ahead_bytes(int64_t rows, int64_t offset, int64_t tile_bytes, int64_t pitch) {
    if (kAsksColumns) {
        const int64_t ahead = std::min(kAheadColumns << kReadsFewStreams, tile_bytes);
        return offset + ahead < tile_bytes ? ahead : ahead - tile_bytes + pitch;
    }
    if (rows == 1 && pitch > kFarBytes) return kNearBytes;
    return std::max<int64_t>(1, kAheadTiles / pitch) * pitch;
}

// Calls body(step) for the steps of some tiles, in ascending order of columns.
template <class Codes, class Body>
void each_step(const PackedWork<Codes>& w, const Tiling& tiles, const Body& body) {
    const int64_t pitch = tiles.count * w.tile_bytes;
    const int64_t stride = tiles.count == 1 ? 0 : w.tile_bytes;
    const uint8_t* first = w.a.weight + tiles.first * w.tile_bytes;
    const uint8_t* at = first;
    const auto ahead = [&] { return ahead_bytes(w.rows, at - first, w.tile_bytes, pitch); };
    for (int64_t group = 0; group < w.a.k; group += w.a.group) {
        const uint8_t* factors = at;
        for (int64_t t = 0; kAsksColumns && t < tiles.count; ++t) prefetch(at + ahead() + t * stride);
        at += factor_bytes<Codes>();
        const int64_t end = group + w.a.group;
        for (int64_t column = group; column < end; column += kBlockColumns) {
            const auto* x = w.x + column / kBlockColumns * w.rows;
            const int64_t count = std::min(kBlockColumns, end - column);
            const Tiles codes{at, stride, ahead()};
            body(StepOf<Codes>{factors, stride, codes, x, column % kBlockColumns, count});
            at += code_bytes<Codes>(count);
        }
    }
}

// Writes the outputs of the tiles from totals, V vectors a row.
template <int V, class Codes>
void write_totals(const PackedWork<Codes>& w, const Tiling& tiles, const float* totals) {
    const Rows rows{w.first_row, w.rows};
    write_rows<V>(w.a, rows, tiles.first * kTileLanes, tiles.outputs(w.a.n), totals);
}

}  // namespace LMO_ISA
}  // namespace lmo
