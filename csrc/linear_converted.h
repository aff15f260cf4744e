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
constexpr int64_t kPiecePitch = kPieceColumns + kLanes;  // rows do not meet in a few sets of lines
constexpr int64_t kTileSums = kTileWeights * kTileRows * kLanes;

// Weights [begin, end) as floats [pieces][weights][kPiecePitch], then sums [tiles][kTileSums].
struct ConvertedChunk {
    const LinearArgs& a;
    int64_t begin, end;
    float* floats;

    int64_t pieces() const { return (a.k + kPieceColumns - 1) / kPieceColumns; }
    int64_t tiles() const { return (end - begin + kTileWeights - 1) / kTileWeights; }
    int64_t weight_floats() const { return pieces() * (end - begin) * kPiecePitch; }
    int64_t size() const { return weight_floats() + tiles() * kTileSums; }
    float* sums() const { return floats + weight_floats(); }
    float* row(int64_t piece, int64_t n) const {
        return floats + (piece * (end - begin) + n - begin) * kPiecePitch;
    }
};

template <class W>
void convert_piece(const ConvertedChunk& chunk, const W* weight, int64_t piece) {
    const LinearArgs& a = chunk.a;
    const int64_t column = piece * kPieceColumns, count = std::min(kPieceColumns, a.k - column);
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
    const int64_t column = piece * kPieceColumns, count = std::min(kPieceColumns, a.k - column);
    const float* x = a.x + m * a.x_stride + column;
    Accumulators<R, C> acc;
    if (piece == 0) {
        acc.clear();
    } else {
        restore(acc, sums);
    }
    dot_tile(acc, chunk.row(piece, n), kPiecePitch, x, a.x_stride, count);
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
