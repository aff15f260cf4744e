// Products of codes with inputs of 16 bits as two bytes; included where there are exact products of
// bytes.
//
// A 16-bit input is 256 times its upper byte, signed, plus its lower one, unsigned: two products of
// bytes, joined, are the exact sum over a step that one of pairs is. Codes need fewer instructions
// to become bytes than to become pairs, but a sum takes two registers: that is for few rows.
#pragma once

#include "packed_bytes.h"

namespace lmo {
namespace LMO_ISA {

constexpr int kSplitRows = kRegisters / 8;

// The columns that a unit of codes has in its bytes, low nibbles before high ones.
template <class Codes>
inline __m128i column_order() {
    if constexpr (Codes::kPairs == 4) {
        return _mm_setr_epi8(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15);
    } else {
        return _mm_setr_epi8(0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15);
    }
}

// Splits 64 16-bit values in place: their upper bytes, signed, then their lower ones, unsigned;
// both shuffled by `order` within every 16.
inline void split_values(int16_t* values, __m128i order) {
    const Ints low = load_ints(values), high = load_ints(values + kBlockColumns / 2);
    const __m256i wide = _mm256_broadcastsi128_si256(order);
    const auto put = [&](int64_t at, Ints bytes) {
        const __m256i narrow = _mm512_cvtepi16_epi8(bytes);
        store_halves(reinterpret_cast<uint8_t*>(values) + at, _mm256_shuffle_epi8(narrow, wide));
    };
    put(0, _mm512_srai_epi16(low, 8));
    put(32, _mm512_srai_epi16(high, 8));
    put(64, low);
    put(96, high);
}

inline int32_t upper_sum(const int16_t* values) {
    int32_t sum = 0;
    for (int64_t i = 0; i < kHalfColumns; ++i) sum += values[i] >> 8;
    return sum;
}

// Splits a block whose values meet codes in groups of `group` columns.
template <class Codes>
void split_block(PairInputs& block, int64_t group) {
    if constexpr (std::is_same_v<Codes, Int8Codes>) {  // whose quads are 128 larger
        constexpr int32_t kExcess = 256 * Split<Codes>::kZero;
        const int last = group == kHalfColumns ? 1 : 0;
        block.start[0] -= kExcess * upper_sum(block.values);
        block.start[last] -= kExcess * upper_sum(block.values + kHalfColumns);
    }
    split_values(block.values, column_order<Codes>());
}

// Four bytes of an input in every lane.
inline Ints splat_quad(const uint8_t* at) {
    return splat_pair(reinterpret_cast<const int16_t*>(at));
}

// upper, lower[r][v] += quads of two units times both bytes of the values of row r.
template <class Codes, int R, int V>
LMO_INLINE void add_line(const Tiles& codes, const uint8_t* values, Ints (&upper)[R][V],
                         Ints (&lower)[R][V]) {
    unrolled<2>([&](auto u) LMO_BODY {
        Ints units[V];
        unrolled<V>([&](auto v) {
            units[v] = Codes::load(codes.at + u * Codes::kStepBytes, v, codes.stride);
        });
        unrolled<Codes::kQuads>([&](auto q) LMO_BODY {
            Ints quads[V], signed_quads[V];
            unrolled<V>([&](auto v) {
                quads[v] = Codes::template quad<q>(units[v]);
                signed_quads[v] = Codes::template signed_quad<q>(units[v]);
            });
            unrolled<R>([&](auto r) {
                const uint8_t* four = values + r * static_cast<int64_t>(sizeof(PairInputs)) +
                                      (u * Codes::kQuads + q) * kQuadColumns;
                const Ints high = splat_quad(four), low = splat_quad(four + kBlockColumns);
                unrolled<V>([&](auto v) {
                    add_byte_products(upper[r][v], quads[v], high);
                    add_byte_products(lower[r][v], low, signed_quads[v]);
                });
            });
        });
    });
}

// sums[r][v] = codes of tile v times values of row r over the columns of a step.
template <class Codes, int R, int V>
LMO_INLINE void multiply_split(const StepOf<Codes>& step, Ints (&sums)[R][V]) {
    Ints upper[R][V], lower[R][V];
    unrolled<R>([&](auto r) {
        const Ints start = splat(step.x[r].start[step.half()]);
        unrolled<V>([&](auto v) {
            upper[r][v] = splat(0);
            lower[r][v] = start;
        });
    });
    Tiles codes = step.codes;
    const uint8_t* values = reinterpret_cast<const uint8_t*>(step.x->values) + step.begin;
    const uint8_t* end = values + step.count;
    for (; values < end; values += 2 * Codes::kQuads * kQuadColumns) {
        for (int t = 0; t < V * kTilesPerVector; ++t) {
            prefetch(codes.at + t * codes.stride + codes.ahead);
        }
        add_line<Codes>(codes, values, upper, lower);
        codes.at += 2 * Codes::kStepBytes;
    }
    unrolled<R>([&](auto r) {
        unrolled<V>([&](auto v) { sums[r][v] = joined_bytes(upper[r][v], lower[r][v]); });
    });
}

}  // namespace LMO_ISA
}  // namespace lmo
