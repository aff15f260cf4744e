// Products with weights [n, k] packed as quant/packing.py says; they are read from memory once
// for every block of rows and unpacked in registers or, for many rows, a step at a time in cache.
#pragma once

#include "linear_impl.h"
#include "packed_quantize.h"
#include "packed_tile.h"
#include "scratch.h"

namespace lmo {
namespace LMO_ISA {

constexpr int64_t kFarBytes = 256 << 10;
constexpr int64_t kNearBytes = 2 << 10;

// A block of quantized rows and the weights that it is multiplied with.
template <class Codes>
struct PackedWork {
    const PackedArgs& a;
    int64_t first_row, rows;
    const InputBlock* x;  // [k / 64][rows]
    int64_t tile_bytes;
};

template <class Codes>
constexpr int64_t factor_bytes() {
    return (Codes::kMinimums ? 2 : 1) * kFactorBytes;
}

// Tiles side by side that are computed together: whole vectors of them, or a single one.
struct Tiling {
    int64_t first, count;

    int64_t outputs(int64_t n) const {
        return std::min((first + count) * kTileLanes, n) - first * kTileLanes;
    }
};

// How far ahead to ask for codes: for the same columns of tiles that come next, or, where a single
// row is limited by memory and those would leave the L2 cache again, for columns that come next.
inline int64_t ahead_bytes(int64_t rows, int64_t pitch) {
    if (rows == 1 && pitch > kFarBytes) return kNearBytes;
    return std::max<int64_t>(1, kAheadBytes / pitch) * pitch;
}

// Calls body(step) for the steps of some tiles, in ascending order of columns.
template <class Codes, class Body>
void each_step(const PackedWork<Codes>& w, const Tiling& tiles, const Body& body) {
    const int64_t pitch = tiles.count * w.tile_bytes;
    const int64_t ahead = ahead_bytes(w.rows, pitch);
    const int64_t stride = tiles.count == 1 ? 0 : w.tile_bytes;
    const uint8_t* at = w.a.weight + tiles.first * w.tile_bytes;
    for (int64_t group = 0; group < w.a.k; group += w.a.group) {
        const uint8_t* factors = at;
        at += factor_bytes<Codes>();
        const int64_t end = group + w.a.group;
        for (int64_t column = group; column < end; column += kBlockColumns) {
            const InputBlock* x = w.x + column / kBlockColumns * w.rows;
            const int64_t count = std::min(kBlockColumns, end - column);
            const Tiles codes{at, stride, ahead};
            body(Step{factors, stride, codes, x, column % kBlockColumns, count});
            at += code_bytes<Codes>(count);
        }
    }
}

// Writes out[rows, outputs of the tiles] from totals, V vectors a row.
template <int V, class Codes>
void write_totals(const PackedWork<Codes>& w, const Tiling& tiles, const float* totals) {
    const PackedArgs& a = w.a;
    const int64_t n = tiles.first * kTileLanes;
    each_vector(tiles.outputs(a.n), [&](int64_t i, auto span) {
        Vec bias = zero();
        if (a.bias) {
            with_type(a.bias_dtype, [&](auto* type) {
                bias = load(static_cast<decltype(type)>(a.bias) + n + i, span);
            });
        }
        for (int64_t row = 0; row < w.rows; ++row) {
            float* out = a.out + (w.first_row + row) * a.out_stride + n + i;
            Vec value = load(totals + row * V * kLanes + i);
            if (a.bias) value = value + bias;
            if (a.accumulate) value = load(out, span) + value;
            store(out, value, span);
        }
    });
}

// One row times V vectors of tiles.
template <int V, class Codes>
void single_row(const PackedWork<Codes>& w, const Tiling& tiles) {
    float totals[V * kLanes] = {};
    each_step(w, tiles, [&](const Step& step) { add_step<Codes, 1, V>(step, totals); });
    write_totals<V>(w, tiles, totals);
}

// All rows times V vectors of tiles: few rows take the codes as they are.
template <int V, class Codes>
void few_rows(const PackedWork<Codes>& w, const Tiling& tiles) {
    float totals[kPackedRows * V * kLanes] = {};
    with_count<kPackedRows>(w.rows, [&](auto rows) {
        constexpr int R = decltype(rows)::value;
        each_step(w, tiles, [&](const Step& step) { add_step<Codes, R, V>(step, totals); });
    });
    write_totals<V>(w, tiles, totals);
}

// All rows times V vectors of tiles: many rows share codes that were unpacked for them.
template <int V, class Codes>
void many_rows(const PackedWork<Codes>& w, const Tiling& tiles) {
    using Unpacked = UnpackedCodes<Codes::kMinimums>;
    alignas(64) uint8_t pairs[V * kVectorPairBytes];
    float totals[kBlockRows * V * kLanes];
    std::fill_n(totals, w.rows * V * kLanes, 0.0f);
    each_step(w, tiles, [&](Step step) {
        step.codes = unpack<Codes, V>(step, pairs);
        for (int64_t row = 0; row < w.rows; row += kPackedRows) {
            const int64_t height = std::min<int64_t>(kPackedRows, w.rows - row);
            with_count<kPackedRows>(height, [&](auto rows) {
                add_step<Unpacked, decltype(rows)::value, V>(step, totals + row * V * kLanes);
            });
            step.x += height;
        }
    });
    write_totals<V>(w, tiles, totals);
}

template <int V, class Codes>
void packed_tiles(const PackedWork<Codes>& w, const Tiling& tiles) {
    if (w.rows <= kPackedRows) {
        few_rows<V>(w, tiles);
    } else {
        many_rows<V>(w, tiles);
    }
}

inline int64_t tiles_of(const PackedArgs& a) { return (a.n + kTileLanes - 1) / kTileLanes; }

// Tiles [tile, end); those of a single row are taken more at a time.
template <class Codes>
void packed_chunk(const PackedWork<Codes>& w, int64_t tile, int64_t end) {
    if (w.rows == 1) {
        for (; tile + kRowTiles <= end; tile += kRowTiles) {
            single_row<kRowVectors>(w, {tile, kRowTiles});
        }
    }
    for (; tile + kPackedTiles <= end; tile += kPackedTiles) {
        packed_tiles<kPackedVectors>(w, {tile, kPackedTiles});
    }
    for (int64_t count; tile < end; tile += count) {
        count = std::min(kTilesPerVector, end - tile);
        packed_tiles<1>(w, {tile, count});
    }
}

// A block of rows times every product's weights.
template <class Codes>
void packed_block(const PackedRun& products, int64_t first_row, int64_t rows,
                  const InputBlock* x) {
    const PackedArgs& any = products.first();
    const int64_t group_bytes = factor_bytes<Codes>() + code_bytes<Codes>(any.group);
    const int64_t tile_bytes = any.k / any.group * group_bytes;
    const int64_t unit = rows == 1 ? kRowTiles : kPackedTiles;
    const auto step = [&](const PackedArgs& a) {
        return chunk_rows(rows, tiles_of(a), tile_bytes, unit, a.threads);
    };
    const auto chunks = [&](const PackedArgs& a) { return (tiles_of(a) + step(a) - 1) / step(a); };
    each_chunk(products, chunks, [&](const PackedArgs& a, int64_t chunk) {
        const int64_t tile = chunk * step(a), end = std::min(tiles_of(a), tile + step(a));
        packed_chunk(PackedWork<Codes>{a, first_row, rows, x, tile_bytes}, tile, end);
    });
}

// The rows are quantized once for all products.
template <class Codes>
void packed_typed(const PackedRun& products) {
    const PackedArgs& a = products.first();
    for (int64_t row = 0; row < a.m; row += kBlockRows) {
        const int64_t rows = std::min(kBlockRows, a.m - row);
        const int64_t bytes = rows * input_blocks(a.k) * static_cast<int64_t>(sizeof(InputBlock));
        auto* x = reinterpret_cast<InputBlock*>(scratch(Scratch::job, bytes / sizeof(float)));
        quantize_rows(a, row, rows, x);
        packed_block<Codes>(products, row, rows, x);
    }
}

inline void packed_linear(const PackedRun& products) {
    if (products.first().bits == 8) {
        packed_typed<Int8Codes>(products);
    } else if (products.first().symmetric) {
        packed_typed<Int4Codes<false>>(products);
    } else {
        packed_typed<Int4Codes<true>>(products);
    }
}

}  // namespace LMO_ISA
}  // namespace lmo
