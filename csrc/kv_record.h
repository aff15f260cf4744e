// The layout of a quantized KV cache and the product that reads it; see quant/kv_blocks.py.
#pragma once

#include <algorithm>

#include "linear_tile.h"
#include "packed_tile.h"

namespace lmo {
namespace LMO_ISA {

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
    int64_t key_tile_bytes() const { return kTileLanes * head_dim * Bits / 8; }
    static constexpr int64_t value_tile_bytes() { return kTileLanes * kBlockTokens * Bits / 8; }
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
    // Always inlined, as gcc drops calls of what only asks.
    LMO_INLINE void ask_factors(const uint8_t* record) const {
        const int64_t kinds = Bits == 8 ? 1 : 2;
        for (int64_t i = 0; i < kinds * groups() * kBlockTokens; i += 32) prefetch(scales(record) + i);
    }
};

}  // namespace LMO_ISA
}  // namespace lmo
