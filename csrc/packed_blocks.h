// Blocks of rows of products with packed weights, and the chunks of weights that they are multiplied
// with; included per instruction set.
#pragma once

#include "packed_work.h"
#include "scratch.h"

namespace lmo {
namespace LMO_ISA {

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

// Calls body(codes) with the type of the weights' codes.
template <class Body>
void with_codes(const PackedArgs& a, const Body& body) {
    const bool bytes = a.input_bits == 8;
    if (a.floats) return a.bits == 8 ? body(Float8Codes()) : body(Float4Codes());
    if (a.bits == 8) {
#if defined(LMO_VNNI)
        if (bytes) return body(ByteInt8Codes());
#endif
        return body(Int8Codes());
    }
    if (a.symmetric) return bytes ? body(ByteInt4Codes<false>()) : body(Int4Codes<false>());
    return bytes ? body(ByteInt4Codes<true>()) : body(Int4Codes<true>());
}

// Calls body(first, rows) for the blocks of rows that meet such codes.
template <class Codes, class Body>
void each_block_of(const PackedArgs& a, const Body& body) {
    constexpr int64_t kMost = kRowsHeld<typename Codes::Inputs>;
    for (int64_t first = 0; first < a.m; first += kMost) {
        body(first, std::min(kMost, a.m - first));
    }
}

// Calls body(codes, first, rows) for the blocks of rows.
template <class Body>
void each_row_block(const PackedArgs& a, const Body& body) {
    with_codes(a, [&](auto codes) {
        each_block_of<decltype(codes)>(
            a, [&](int64_t first, int64_t rows) { body(codes, first, rows); });
    });
}

}  // namespace LMO_ISA
}  // namespace lmo
