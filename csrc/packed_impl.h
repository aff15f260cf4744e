// Products with weights [n, k] packed as quant/packing.py says; they are read from memory once
// for every block of rows and unpacked in registers or, for many rows, a step at a time in cache.
#pragma once

#include "packed_work.h"
#include "scratch.h"

namespace lmo {
namespace LMO_ISA {

// One row times V vectors of tiles.
template <int V, class Codes>
void single_row(const PackedWork<Codes>& w, const Tiling& tiles) {
    alignas(64) float totals[V * kLanes] = {};
    each_step(w, tiles, [&](const StepOf<Codes>& step) { add_step<Codes, 1, V>(step, totals); });
    write_totals<V>(w, tiles, totals);
}

// All rows times V vectors of tiles: few rows, at most Most, take the codes as they are.
template <int V, int Most, class Codes>
void few_rows(const PackedWork<Codes>& w, const Tiling& tiles) {
    alignas(64) float totals[Most * V * kLanes] = {};
    with_count<Most>(w.rows, [&](auto rows) {
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

template <int V, class Codes>
void packed_tiles(const PackedWork<Codes>& w, const Tiling& tiles) {
    if (w.rows <= kPackedRows) {
        few_rows<V, kPackedRows>(w, tiles);
    } else {
        many_rows<V>(w, tiles);
    }
}

// Tiles [tile, end), by body(vectors, tiles); those of a single row are taken more at a time.
template <class Codes, class Body>
void tile_chunk(const PackedWork<Codes>& w, int64_t tile, int64_t end, const Body& body) {
    if (w.rows == 1) {
        for (; tile + kRowTiles <= end; tile += kRowTiles) {
            single_row<kRowVectors>(w, {tile, kRowTiles});
        }
    }
    each_tiling(tile, end, body);
}

template <class Codes>
void packed_chunk(const PackedWork<Codes>& w, int64_t tile, int64_t end) {
    tile_chunk(w, tile, end, [&](auto vectors, const Tiling& tiles) {
        packed_tiles<decltype(vectors)::value>(w, tiles);
    });
}

// A block of rows times every product's weights; chunk(work, tile, end) computes some tiles.
template <class Codes, class Chunk>
void packed_block(const PackedRun& products, int64_t first_row, int64_t rows,
                  const typename Codes::Inputs* x, const Chunk& chunk) {
    const PackedArgs& any = products.first();
    const int64_t group_bytes = factor_bytes<Codes>() + code_bytes<Codes>(any.group);
    const int64_t tile_bytes = any.k / any.group * group_bytes;
    const int64_t unit = rows == 1 ? kRowTiles : kPackedTiles;
    const auto step = [&](const PackedArgs& a) {
        return chunk_rows(rows, tiles_of(a), tile_bytes, unit, a.threads);
    };
    const auto chunks = [&](const PackedArgs& a) { return (tiles_of(a) + step(a) - 1) / step(a); };
    each_chunk(products, chunks, [&](const PackedArgs& a, int64_t i) {
        const int64_t tile = i * step(a), end = std::min(tiles_of(a), tile + step(a));
        chunk(PackedWork<Codes>{a, first_row, rows, x, tile_bytes}, tile, end);
    });
}

// Rows [first, first + rows) of the inputs, each block of columns handed to finish(block) last.
template <class Codes, class Finish>
const typename Codes::Inputs* quantized(const PackedArgs& a, int64_t first, int64_t rows,
                                        const Finish& finish) {
    using Inputs = typename Codes::Inputs;
    const int64_t bytes = rows * input_blocks(a.k) * static_cast<int64_t>(sizeof(Inputs));
    auto* x = reinterpret_cast<Inputs*>(scratch(Scratch::job, bytes / sizeof(float)));
    quantize_rows<Codes>(a, first, rows, x, finish);
    return x;
}

#if defined(LMO_VNNI)

template <class Codes>
void split_chunk(const PackedWork<Codes>& w, int64_t tile, int64_t end) {
    tile_chunk(w, tile, end, [&](auto vectors, const Tiling& tiles) {
        few_rows<decltype(vectors)::value, kSplitRows>(w, tiles);
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

// Calls body(codes) with the type of the weights' codes.
template <class Body>
void with_codes(const PackedArgs& a, const Body& body) {
    const bool bytes = a.input_bits == 8;
    if (a.input_bits == 32) return body(Float8Codes());
    if (a.bits == 8) {
#if defined(LMO_VNNI)
        if (bytes) return body(ByteInt8Codes());
#endif
        return body(Int8Codes());
    }
    if (a.symmetric) return bytes ? body(ByteInt4Codes<false>()) : body(Int4Codes<false>());
    return bytes ? body(ByteInt4Codes<true>()) : body(Int4Codes<true>());
}

// Calls body(codes, first, rows) for the blocks of rows.
template <class Body>
void each_row_block(const PackedArgs& a, const Body& body) {
    with_codes(a, [&](auto codes) {
        constexpr int64_t kMost = kRowsHeld<typename decltype(codes)::Inputs>;
        for (int64_t first = 0; first < a.m; first += kMost) {
            body(codes, first, std::min(kMost, a.m - first));
        }
    });
}

inline void packed_linear(const PackedRun& products) {
    each_row_block(products.first(), [&](auto codes, int64_t first, int64_t rows) {
        packed_rows<decltype(codes)>(products, first, rows);
    });
}

}  // namespace LMO_ISA
}  // namespace lmo
