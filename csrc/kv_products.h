// Products of the codes of a quantized cache with rounded queries and rounded weights of softmax.
//
// Beside codes of 8 bits these are numbers of 16 bits. Beside codes of 4 bits they are bytes, whose
// products are twice as fast: what that rounds off is lost in the rounding of the codes.
#pragma once

#include "kv_record.h"

namespace lmo {
namespace LMO_ISA {

template <int C, int T>
LMO_INLINE void clear(Ints (&sums)[C][T]) {
    unrolled<C>([&](auto c) { unrolled<T>([&](auto t) { sums[c][t] = splat(0); }); });
}

// T vectors of tiles side by side, and what to ask for with each step along them.
struct Lanes {
    const uint8_t* codes;
    int64_t stride;  // bytes from a tile to its neighbour; 0 where one tile is all there is
    const uint8_t *near, *far;

    LMO_INLINE Ints load(int t) const {
        return in_register(load_tiles(codes + t * kTilesPerVector * stride, stride));
    }

    template <int T>
    LMO_INLINE void ask() const {
        constexpr int64_t bytes = T * static_cast<int64_t>(sizeof(Ints));
        for (int64_t i = 0; i < bytes; i += kLineBytes) {
            prefetch_far(far + i);
            prefetch(near + i);
        }
    }

    template <int T>
    LMO_INLINE void next() {
        codes += kUnitBytes;
        near += T * static_cast<int64_t>(sizeof(Ints));
        far += T * static_cast<int64_t>(sizeof(Ints));
    }
};

template <int Bits>
struct Products;

template <>
struct Products<8> {
    using Number = int16_t;
    static constexpr int kWeightBits = 15;

    // The most that a rounded query may be, so that a score fits 32 bits.
    static float query_limit(int64_t head_dim) {
        return std::min(32767.0f, static_cast<float>(INT32_MAX / (128 * head_dim)));
    }

    template <class Span>
    static void write(Number* to, Vec rounded, Span span) {
        store(to, rounded, span);
    }

    // sums[c][t] += codes of tile t * rows[c] (pitch apart) over the columns.
    template <bool Keys, int C, int T>
    LMO_INLINE static void add(Ints (&sums)[C][T], Lanes lanes, const Number* rows, int64_t pitch,
                               int64_t columns) {
        for (int64_t column = 0; column < columns; column += 4) {
            lanes.ask<T>();
            Ints units[T];
            unrolled<T>([&](auto t) { units[t] = lanes.load(t); });
            unrolled<2>([&](auto p) {
                Ints pairs[T];
                unrolled<T>([&](auto t) { pairs[t] = Int8Codes::pair<p>(units[t]); });
                unrolled<C>([&](auto c) {
                    const Ints input = splat_pair(rows + c * pitch + column + 2 * p);
                    if constexpr (T == 2) {
                        add_products(sums[c][0], sums[c][1], pairs[0], pairs[1], input);
                    } else {
                        add_products(sums[c][0], pairs[0], input);
                    }
                });
            });
            lanes.next<T>();
        }
    }
};

template <>
struct Products<4> {
    using Number = uint8_t;  // of a query with its sign, in the order of nibbles
    static constexpr int kWeightBits = 8;

    // 64 columns of products with codes up to 15 fit 16 bits: 32 * 15 * 68 < 2^15.
    static float query_limit(int64_t) { return 68.0f; }

    static void write(Number* to, Vec rounded, Whole) { store_bytes(to, rounded); }

    static void write(Number* to, Vec rounded, Part part) {
        Number bytes[kLanes];
        store_bytes(bytes, rounded);
        std::memcpy(to, bytes, static_cast<size_t>(part.count));
    }

    // The same for at most 64 columns of keys or 16 of values: 8 * 15 * 255 < 2^15.
    template <bool Keys, int C, int T>
    LMO_INLINE static void add(Ints (&sums)[C][T], Lanes lanes, const Number* rows, int64_t pitch,
                               int64_t columns) {
        Ints halves[C][T];  // sums of 16 bits
        clear(halves);
        for (int64_t column = 0; column < columns; column += 8) {
            lanes.ask<T>();
            Ints units[T];
            unrolled<T>([&](auto t) { units[t] = lanes.load(t); });
            unrolled<2>([&](auto n) {
                Ints codes[T];
                unrolled<T>([&](auto t) {
                    codes[t] = n == 0 ? low_nibbles(units[t]) : high_nibbles(units[t]);
                });
                unrolled<C>([&](auto c) {
                    const uint8_t* row = rows + c * pitch + column + 4 * n;
                    const Ints input = splat_pair(reinterpret_cast<const int16_t*>(row));
                    unrolled<T>([&](auto t) {
                        if constexpr (Keys) {
                            add_byte_products(halves[c][t], codes[t], input);
                        } else {
                            add_byte_products(halves[c][t], input, codes[t]);
                        }
                    });
                });
            });
            lanes.next<T>();
        }
        unrolled<C>([&](auto c) {
            unrolled<T>([&](auto t) { sums[c][t] = lmo::LMO_ISA::add(sums[c][t], byte_sums(halves[c][t])); });
        });
    }
};

}  // namespace LMO_ISA
}  // namespace lmo
