// Products of many rows: weights are converted to floats once for all of them, and every tile of
// rows meets them piece by piece of their columns.
//
//     weights of a chunk, as floats:   [piece 0][piece 1][piece 2]     in the L2 cache
//     for a tile of rows:              piece 0 of all tiles of weights, piece 1, piece 2
//
// Inputs of a piece stay in the L1 cache meanwhile, and sums are kept between pieces. The order of
// a sum's columns is that of linear_tile.h, and so are its bits.
#pragma once

#include "linear_tile.h"
#include "scratch.h"

namespace lmo {
namespace LMO_ISA {

// From how many rows on; with 16 registers and smaller tiles it has not been found to pay.
constexpr int64_t kConvertedRows = kRegisters == 32 ? 16 * kTileRows : INT64_MAX;
constexpr int64_t kConvertedBytes = 640 << 10;  // of a chunk's floats: they stay in the L2 cache
constexpr int64_t kPieceColumns = 1024;         // inputs of a tile: half of the L1 cache
constexpr int64_t kTileSums = kTileWeights * kTileRows * kLanes;

// Weights [begin, end) as floats [pieces][weights][pitch], then sums [tiles][kTileSums] where there
// are several pieces.
struct ConvertedChunk {
    const LinearArgs& a;
    int64_t begin, end;
    float* floats;

    int64_t pieces() const {
        return std::max<int64_t>(1, (a.k + kPieceColumns - 1) / kPieceColumns);
    }
    int64_t columns(int64_t piece) const {
        return std::min(kPieceColumns, a.k - piece * kPieceColumns);
    }
    // One vector more than a row needs: rows do not meet in a few sets of the L1 cache's lines.
    int64_t pitch(int64_t piece) const { return columns(piece) / kLanes * kLanes + 2 * kLanes; }
    int64_t offset(int64_t piece, int64_t n) const {
        const int64_t before = piece * (end - begin) * pitch(0);
        return before + (n - begin) * pitch(piece);
    }
    int64_t weight_floats() const { return offset(pieces() - 1, end); }
    int64_t size() const {
        const int64_t tiles = (end - begin + kTileWeights - 1) / kTileWeights;
        return weight_floats() + (pieces() > 1 ? tiles * kTileSums : 0);
    }
    float* row(int64_t piece, int64_t n) const { return floats + offset(piece, n); }
    float* sums() const { return floats + weight_floats(); }
};

template <class W>
void convert_piece(const ConvertedChunk& chunk, const W* weight, int64_t piece) {
    const LinearArgs& a = chunk.a;
    const int64_t column = piece * kPieceColumns, count = chunk.columns(piece);
    for (int64_t n = chunk.begin; n < chunk.end; ++n) {
        const W* row = weight + n * a.weight_stride + column;
        float* floats = chunk.row(piece, n);
        each_vector(count, [&](int64_t i, auto span) { store(floats + i, load(row + i, span)); });
    }
}

template <int R, int C>
void keep(const Accumulators<R, C>& acc, float* sums) {
    for (const auto& row : acc.at) {
        for (const Vec& sum : row) store(sums, sum), sums += kLanes;
    }
}

template <int R, int C>
void restore(Accumulators<R, C>& acc, const float* sums) {
    for (auto& row : acc.at) {
        for (Vec& sum : row) sum = load(sums), sums += kLanes;
    }
}

// out[m : m + C, n : n + R] over one piece of columns; the sums over those before are in `sums`.
template <int R, int C>
void piece_tile(const ConvertedChunk& chunk, int64_t piece, int64_t m, int64_t n, float* sums) {
    const LinearArgs& a = chunk.a;
    const float* x = a.x + m * a.x_stride + piece * kPieceColumns;
    Accumulators<R, C> acc;
    if (piece == 0) {
        acc.clear();
    } else {
        restore(acc, sums);
    }
    dot_tile(acc, chunk.row(piece, n), chunk.pitch(piece), x, a.x_stride, chunk.columns(piece));
    if (piece + 1 == chunk.pieces()) {
        finish_tile(a, m, n, acc);
    } else {
        keep(acc, sums);
    }
}

// Rows [m, m + C) times the chunk.
template <int C>
void converted_rows(const ConvertedChunk& chunk, int64_t m) {
    for (int64_t piece = 0; piece < chunk.pieces(); ++piece) {
        float* sums = chunk.sums();
        for (int64_t n = chunk.begin; n < chunk.end; n += kTileWeights, sums += kTileSums) {
            with_count<kTileWeights>(std::min<int64_t>(kTileWeights, chunk.end - n), [&](auto r) {
                piece_tile<decltype(r)::value, C>(chunk, piece, m, n, sums);
            });
        }
    }
}

// All rows times weights [begin, end).
template <class W>
void converted_chunk(const LinearArgs& a, const W* weight, int64_t begin, int64_t end) {
    ConvertedChunk chunk{a, begin, end, nullptr};
    chunk.floats = scratch(Scratch::chunk, chunk.size());
    for (int64_t piece = 0; piece < chunk.pieces(); ++piece) convert_piece(chunk, weight, piece);
    for (int64_t m = 0; m < a.m; m += kTileRows) {
        with_count<kTileRows>(std::min<int64_t>(kTileRows, a.m - m), [&](auto c) {
            converted_rows<decltype(c)::value>(chunk, m);
        });
    }
}

}  // namespace LMO_ISA
}  // namespace lmo
