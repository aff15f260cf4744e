// Products with weights [n, k] packed as quant/packing.py says; they are read from memory once
// for every block of rows and unpacked in registers or, for many rows, a step at a time in cache.
#pragma once

#include "isa_parts.h"
#include "packed_blocks.h"

namespace lmo {
namespace LMO_ISA {

// One row times V vectors of tiles.
template <int V, class Codes>
void single_row(const PackedWork<Codes>& w, const Tiling& tiles) {
    alignas(64) float totals[V * kLanes] = {};
    each_step(w, tiles, [&](const StepOf<Codes>& step) { add_step<Codes, 1, V>(step, totals); });
    write_totals<V>(w, tiles, totals);
}

// All rows times V vectors of tiles: few rows, Least to Most, take the codes as they are.
template <int V, int Least, int Most, class Codes>
void few_rows(const PackedWork<Codes>& w, const Tiling& tiles) {
    alignas(64) float totals[Most * V * kLanes] = {};
    with_count<Most, Least>(w.rows, [&](auto rows) {
        constexpr int R = decltype(rows)::value;
        each_step(w, tiles, [&](const StepOf<Codes>& step) {
            add_step<Codes, R, V>(step, totals);
        });
    });
    write_totals<V>(w, tiles, totals);
}

// All rows times V vectors of tiles: many rows share codes that were unpacked for them.
template <int V, class Codes>
void many_rows(const PackedWork<Codes>& w, const Tiling& tiles) {
    constexpr int64_t kMost = kUnpackedRows<Codes>;
    alignas(64) uint8_t bytes[V * kUnpackedBytes<Codes>];
    alignas(64) float totals[kBlockRows * V * kLanes];
    std::fill_n(totals, w.rows * V * kLanes, 0.0f);
    each_step(w, tiles, [&](StepOf<Codes> step) {
        Factors factors[V];
        if constexpr (kKeepsFactors) {
            unrolled<V>([&](auto v) { factors[v] = factors_of<Codes>(step, v); });
            step.factors = reinterpret_cast<const uint8_t*>(factors);
        }
        step.codes = unpack<Codes, V>(step, bytes);
        for (int64_t row = 0; row < w.rows; row += kMost) {
            const int64_t height = std::min(kMost, w.rows - row);
            with_count<kMost>(height, [&](auto rows) {
                constexpr int R = decltype(rows)::value;
                add_step<Unpacked<Codes>, R, V>(step, totals + row * V * kLanes);
            });
            step.x += height;
        }
    });
    write_totals<V>(w, tiles, totals);
}

// The fewest rows that are not multiplied as bytes.
#if defined(LMO_VNNI)
template <class Codes>
constexpr int kLeastRows = kPairInputs<Codes> ? kSplitRows + 1 : 1;
#else
template <class Codes>
constexpr int kLeastRows = 1;
#endif

template <int V, class Codes>
void packed_tiles(const PackedWork<Codes>& w, const Tiling& tiles) {
    if (w.rows <= kPackedRows) {
        few_rows<V, kLeastRows<Codes>, kPackedRows>(w, tiles);
    } else {
        many_rows<V>(w, tiles);
    }
}

// Tiles [tile, end), by body(vectors, tiles); those of a single row are taken more at a time where
// a core reads many streams well.
template <class Codes, class Body>
void tile_chunk(const PackedWork<Codes>& w, int64_t tile, int64_t end, const Body& body) {
    if (w.rows == 1 && !kReadsFewStreams) {
        for (; tile + kRowTiles <= end; tile += kRowTiles) {
            single_row<kRowVectors>(w, {tile, kRowTiles});
        }
    }
    each_tiling(tile, end, body);
}

template <class Codes>
void packed_chunk(const PackedWork<Codes>& w, int64_t tile, int64_t end) {
    const auto body = [&](auto vectors, const Tiling& tiles) {
        packed_tiles<decltype(vectors)::value>(w, tiles);
    };
    if constexpr (kLeastRows<Codes> == 1) {
        tile_chunk(w, tile, end, body);
    } else {
        each_tiling(tile, end, body);
    }
}

#if defined(LMO_VNNI)

template <class Codes>
void split_chunk(const PackedWork<Codes>& w, int64_t tile, int64_t end) {
    tile_chunk(w, tile, end, [&](auto vectors, const Tiling& tiles) {
        few_rows<decltype(vectors)::value, 1, kSplitRows>(w, tiles);
    });
}

// A few rows as bytes.
template <class Codes>
void split_rows(const PackedRun& products, int64_t first, int64_t rows) {
    const PackedArgs& any = products.first();
    const auto* x = quantized<Codes>(any, first, rows,
                                     [&](auto& block) { split_block<Codes>(block, any.group); });
    packed_block<Split<Codes>>(products, first, rows, x, split_chunk<Split<Codes>>);
}

#endif

// A block of rows in vector registers.
template <class Codes>
void packed_rows(const PackedRun& products, int64_t first, int64_t rows) {
#if defined(LMO_VNNI)
    if constexpr (kPairInputs<Codes>) {
        if (rows <= kSplitRows) return split_rows<Codes>(products, first, rows);
    }
#endif
    const auto* x = quantized<Codes>(products.first(), first, rows, [](auto&) {});
    packed_block<Codes>(products, first, rows, x, packed_chunk<Codes>);
}

#if defined(LMO_BF16)

// `Others` multiplies what dot products of bf16 do not.
template <void (*Others)(const PackedRun&)>
void float8_linear(const PackedRun& products) {
    const PackedArgs& any = products.first();
    if (!any.floats || any.bits != 8) return Others(products);
    each_block_of<Float8Codes>(any, [&](int64_t first, int64_t rows) {
        packed_rows<Float8Codes>(products, first, rows);
    });
}

#else

void packed_linear(const PackedRun& products) {
    each_row_block(products.first(), [&](auto codes, int64_t first, int64_t rows) {
        packed_rows<decltype(codes)>(products, first, rows);
    });
}

#endif

}  // namespace LMO_ISA
}  // namespace lmo
