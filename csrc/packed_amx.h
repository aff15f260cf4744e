// Products with packed weights in the tile registers of AMX, from 16 rows on.
//
// These multiply bytes. A 16-bit input is 256 times its upper byte, signed, plus its lower one,
// unsigned: two products of bytes, joined, are the exact sum over a step that vector registers
// compute, and what follows is the same; inputs of 8 bits are one product. So the number of rows
// from which tiles are used changes no bit, nor does the order of columns within a step: weights
// stay in that of memory.
#pragma once

#include "packed_blocks.h"
#include "simd_amx.h"

namespace lmo {
namespace LMO_ISA {

static_assert(kLanes == kMatrixRowBytes / 4 && kPackedVectors == 2);

// The codes of a step as bytes, four columns a row, V vectors of tiles in kMatrixBytes each.
// Rows of other columns of the block are zero: inputs need no cut.
template <class Codes, int V>
inline void unpack_bytes(const StepOf<Codes>& step, uint8_t* bytes) {
    constexpr int64_t kUnitRows = Codes::kPairs / 2;
    if (step.count < kBlockColumns) std::memset(bytes, 0, V * kMatrixBytes);
    each_unit<Codes, V>(step, [&](int64_t i, int v, Ints unit) {
        const int64_t row = step.begin / 4 + i * kUnitRows;
        uint8_t* to = bytes + v * kMatrixBytes + row * kMatrixRowBytes;
        if constexpr (kUnitRows == 1) {
            store_ints(to, unit);
        } else {
            store_ints(to, Codes::template quad<0>(unit));
            store_ints(to + kMatrixRowBytes, Codes::template quad<1>(unit));
        }
    });
}

// totals[16][V] += one step, from the row `first` on; a function of its own, for its registers.
template <class Codes, int V>
__attribute__((noinline)) void add_matrix(const ByteSums* sums, const Factors* factors,
                                          const typename Codes::Inputs* x, int64_t half,
                                          int64_t first, float* totals) {
    for (int64_t r = first; r < kMatrixRows; ++r) {
        const Ints start = splat(x[r].start[half]);
        unrolled<V>([&](auto v) {
            const Ints sum = add(byte_sum(sums[v], r, x[r]), start);
            add_sum<Codes>(sum, factors[v], x[r], half, totals + (r * V + v) * kLanes);
        });
    }
}

// All rows, 16 or more, times V vectors of tiles. The last 16 rows overlap others, of which no
// more than the product is computed again.
template <int V, class Codes>
void matrix_tiles(const PackedWork<Codes>& w, const Tiling& tiles) {
    alignas(64) uint8_t bytes[V * kMatrixBytes];
    ByteSums sums[V];
    alignas(64) float totals[kBlockRows * V * kLanes];
    std::fill_n(totals, w.rows * V * kLanes, 0.0f);
    each_step(w, tiles, [&](const StepOf<Codes>& step) {
        unpack_bytes<Codes, V>(step, bytes);
        load_weights<V>(bytes);
        Factors factors[V];
        unrolled<V>([&](auto v) { factors[v] = factors_of<Codes>(step, v); });
        for (int64_t done = 0; done < w.rows; done += kMatrixRows) {
            const int64_t row = std::min(done, w.rows - kMatrixRows);
            multiply_weights<V>(step.x + row, sums);
            add_matrix<Codes, V>(sums, factors, step.x + row, step.half(), done - row,
                                 totals + row * V * kLanes);
        }
    });
    write_totals<V>(w, tiles, totals);
}

// Tiles [tile, end).
template <class Codes>
void matrix_chunk(const PackedWork<Codes>& w, int64_t tile, int64_t end) {
    const TileRegisters registers;
    each_tiling(tile, end, [&](auto vectors, const Tiling& tiles) {
        matrix_tiles<decltype(vectors)::value>(w, tiles);
    });
}

// A block of 16 rows or more in tile registers.
template <class Codes>
void matrix_rows(const PackedRun& products, int64_t first, int64_t rows) {
    const auto* x = quantized<Codes>(products.first(), first, rows, [](auto& block) {
        if constexpr (!kByteInputs<Codes>) split_values(block.values, column_order<Codes>());
    });
    packed_block<Codes>(products, first, rows, x, matrix_chunk<Codes>);
}

// The codes of int8 are multiplied with their signs.
template <class Codes>
struct SignedCodes : Codes {
    static constexpr int kZero = Codes::kZero == 128 ? 0 : Codes::kZero;
};

// Rows [first, first + rows) of the products.
inline PackedRun rows_of(PackedRun products, int64_t first, int64_t rows) {
    for (int i = 0; i < products.count; ++i) {
        PackedArgs& a = products.at[i];
        a.x += first * a.x_stride;
        a.out += first * a.out_stride;
        a.m = rows;
    }
    return products;
}

// `Others` multiplies what tile registers do not: floats, and blocks of fewer rows.
template <void (*Others)(const PackedRun&)>
void matrix_linear(const PackedRun& products) {
    each_row_block(products.first(), [&](auto codes, int64_t first, int64_t rows) {
        using Codes = decltype(codes);
        if constexpr (!kFloatInputs<Codes>) {
            if (rows >= kMatrixRows) {
                return matrix_rows<SignedCodes<Codes>>(products, first, rows);
            }
        }
        Others(rows_of(products, first, rows));
    });
}

}  // namespace LMO_ISA
}  // namespace lmo
