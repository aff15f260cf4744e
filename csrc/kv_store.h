// Rounding keys and values as they are written into a quantized cache; see quant/kv.py.
#pragma once

#include "kv_record.h"
#include "scratch.h"
#include "thread_pool.h"

namespace lmo {
namespace LMO_ISA {

constexpr int64_t kStoreChunkElements = 16 << 10;  // less is not worth another thread
constexpr float kF16Max = 65504.0f;

// What the codes of a group are multiplied by and counted from.
struct HeadFactors {
    float scale, minimum;
};

inline float as_f16(float x) {
    F16 rounded;
    store(&rounded, splat(std::clamp(x, -kF16Max, kF16Max)), Part{1});
    return first(load(&rounded, Part{1}));
}

// The factors of n values, a multiple of 8; NaN where one of them is not finite.
template <int Bits>
inline HeadFactors factors_of(const float* x, int64_t n) {
    Vec low = splat(x[0]), high = low, spoil = zero();
    each_vector(n, [&](int64_t i, auto span) {
        const Vec v = load_or(x[0], x + i, span);
        low = min(v, low);
        high = max(v, high);
        spoil = spoil + (v - v);
    });
    const float nan_or_zero = sum(spoil);
    const float lowest = -largest(zero() - low) + nan_or_zero;
    const float highest = largest(high) + nan_or_zero;
    if constexpr (Bits == 8) return {as_f16(std::max(highest, -lowest) / 127.0f), 0.0f};
    const float minimum = as_f16(lowest);
    return {as_f16(std::max((highest - minimum) / 15.0f, 0.0f)), minimum};
}

template <int Bits>
inline void round_group(const float* x, int64_t n, const HeadFactors& factors, int16_t* codes) {
    if (!(factors.scale > 0.0f)) {
        std::fill_n(codes, n, int16_t{0});
        return;
    }
    const Vec least = splat(Bits == 8 ? -127.0f : 0.0f), most = splat(Bits == 8 ? 127.0f : 15.0f);
    const Vec minimum = splat(factors.minimum), inverse = splat(1.0f / factors.scale);
    each_vector(n, [&](int64_t i, auto span) {
        const Vec level = round((load(x + i, span) - minimum) * inverse);
        store(codes + i, min(most, max(least, level)), span);
    });
}

// The bit of a lane's 32-bit word at which the code of a column begins.
template <int Bits>
constexpr int shift_of(int64_t column) {
    return static_cast<int>(Bits * (column / 2) + 16 * (column % 2));
}

template <int Bits>
constexpr uint32_t kCodeMask = (1u << Bits) - 1;

// The codes of one token become its lane of the keys.
template <int Bits>
inline void put_key(const Record<Bits>& layout, uint8_t* record, int64_t token,
                    const int16_t* codes) {
    uint8_t* tile = record + token / kTileLanes * layout.key_tile_bytes();
    auto* words = reinterpret_cast<uint32_t*>(tile) + token % kTileLanes;
    for (int64_t c = 0; c < layout.head_dim; c += kColumns<Bits>, words += kTileLanes) {
        uint32_t word = 0;
        for (int64_t i = 0; i < kColumns<Bits>; ++i) {
            word |= (static_cast<uint32_t>(codes[c + i]) & kCodeMask<Bits>) << shift_of<Bits>(i);
        }
        *words = word;
    }
}

// The codes of one token become its column of the values; its neighbours' stay.
template <int Bits>
inline void put_value(const Record<Bits>& layout, uint8_t* record, int64_t token,
                      const int16_t* codes) {
    const int shift = shift_of<Bits>(token % kColumns<Bits>);
    const uint32_t kept = ~(kCodeMask<Bits> << shift);
    uint8_t* tile = record + token / kColumns<Bits> * 32;
    for (int64_t c = 0; c < layout.head_dim; c += kTileLanes, tile += layout.value_tile_bytes()) {
        auto* words = reinterpret_cast<uint32_t*>(tile);
        for (int64_t i = 0; i < kTileLanes; ++i) {
            const uint32_t code = static_cast<uint32_t>(codes[c + i]) & kCodeMask<Bits>;
            words[i] = (words[i] & kept) | code << shift;
        }
    }
}

// Rounds one head of one token into `codes` and writes its factors.
template <int Bits>
inline void round_head(const Record<Bits>& layout, const float* x, uint8_t* record, int64_t token,
                       int16_t* codes) {
    for (int64_t group = 0; group < layout.groups(); ++group) {
        const int64_t begin = group * kGroupChannels, n = layout.group_end(group) - begin;
        const HeadFactors factors = factors_of<Bits>(x + begin, n);
        const int64_t at = group * kBlockTokens + token;
        round_group<Bits>(x + begin, n, factors, codes + begin);
        store(layout.scales(record) + at, splat(factors.scale), Part{1});
        if (Bits == 4) store(layout.minimums(record) + at, splat(factors.minimum), Part{1});
    }
}

template <int Bits>
inline void store_head_row(const StoreArgs& a, int64_t row, int64_t head, int16_t* codes) {
    const Cache& cache = a.cache;
    const Record<Bits> layout{cache.head_dim};
    const int64_t block = a.slots[row] / kBlockTokens, token = a.slots[row] % kBlockTokens;
    const int64_t at = block * cache.block_stride + head * cache.head_stride;
    uint8_t* keys = static_cast<uint8_t*>(cache.keys) + at;
    uint8_t* values = static_cast<uint8_t*>(cache.values) + at;
    round_head(layout, a.k + row * a.k_stride + head * a.k_head_stride, keys, token, codes);
    put_key(layout, keys, token, codes);
    round_head(layout, a.v + row * a.v_stride + head * a.v_head_stride, values, token, codes);
    put_value(layout, values, token, codes);
}

// Tokens of one block share bytes: threads take heads, never rows.
template <int Bits>
inline void store_rounded(const StoreArgs& a) {
    const int64_t heads = a.cache.kv_heads;
    const int64_t elements = 2 * a.rows * heads * a.cache.head_dim;
    const int64_t chunks = std::clamp<int64_t>(elements / kStoreChunkElements, 1, heads);
    parallel_for(chunks, a.threads, [&](int64_t chunk) {
        float* memory = scratch(Scratch::chunk, a.cache.head_dim);
        auto* codes = reinterpret_cast<int16_t*>(memory);
        for (int64_t head = chunk * heads / chunks; head < (chunk + 1) * heads / chunks; ++head) {
            for (int64_t row = 0; row < a.rows; ++row) store_head_row<Bits>(a, row, head, codes);
        }
    });
}

}  // namespace LMO_ISA
}  // namespace lmo
