// The layout of a quantized KV cache and the product that reads it; see quant/kv_blocks.py.
#pragma once

#include <algorithm>

#include "operations.h"

namespace lmo {
namespace LMO_ISA {

constexpr int64_t kBlockTokens = 16;
constexpr int64_t kGroupChannels = 64;  // of int4; int8 has one group
constexpr int64_t kWeightTokens = 64;   // positions whose weights of softmax share a step

template <int Bits>
constexpr int64_t kColumns = 32 / Bits;  // of eight lanes in 32 bytes

// Keys or values of one head of one block. A tile is eight lanes: tokens of keys with the channels
// as columns, channels of values with the tokens as columns.
template <int Bits>
struct Record {
    int64_t head_dim;

    int64_t groups() const {
        return Bits == 8 ? 1 : (head_dim + kGroupChannels - 1) / kGroupChannels;
    }
    int64_t code_bytes() const { return kBlockTokens * head_dim * Bits / 8; }
    int64_t key_tile_bytes() const { return kLanes * head_dim * Bits / 8; }
    static constexpr int64_t value_tile_bytes() { return kLanes * kBlockTokens * Bits / 8; }
    int64_t group_end(int64_t group) const {
        return Bits == 8 ? head_dim : std::min(head_dim, (group + 1) * kGroupChannels);
    }

    // Of the 16 tokens, one behind the other for each group.
    const F16* scales(const uint8_t* record) const {
        return reinterpret_cast<const F16*>(record + code_bytes());
    }
    F16* scales(uint8_t* record) const { return reinterpret_cast<F16*>(record + code_bytes()); }
    const F16* minimums(const uint8_t* record) const {
        return scales(record) + groups() * kBlockTokens;
    }
    F16* minimums(uint8_t* record) const { return scales(record) + groups() * kBlockTokens; }
};

// Sums of C rows and T tiles.
template <int C, int T>
struct Sums32 {
    Ints at[C][T];

    void clear() {
        for (auto& row : at) std::fill(row, row + T, no_ints());
    }
};

// sums[c][t] += codes of tile t (tile_bytes apart) * rows[c] (row_pitch apart) over the columns,
// asking for one cache line of `ahead` with each step. 2 * 4 sums, 4 factors of two tiles and one
// pair of a row fit the 16 registers of AVX2.
template <int Bits, int C, int T>
inline void dot_lanes(Sums32<C, T>& sums, const uint8_t* codes, int64_t tile_bytes,
                      const int16_t* rows, int64_t row_pitch, int64_t columns,
                      const uint8_t* ahead) {
    constexpr int kParts = kColumns<Bits> / 2;
    for (int64_t column = 0; column < columns; column += kColumns<Bits>) {
        prefetch(ahead);
        ahead += 32 * T;
        Pairs factors[T][kParts];
        for (int t = 0; t < T; ++t) load_codes<Bits>(codes + t * tile_bytes, factors[t]);
        for (int part = 0; part < kParts; ++part) {
            for (int c = 0; c < C; ++c) {
                const Pairs pair = splat_pair(rows + c * row_pitch + column + 2 * part);
                for (int t = 0; t < T; ++t) {
                    sums.at[c][t] = add(sums.at[c][t], dot_pairs(factors[t][part], pair));
                }
            }
        }
        codes += 32;
    }
}

}  // namespace LMO_ISA
}  // namespace lmo
