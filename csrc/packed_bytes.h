// Products of codes with inputs of 8 bits; included per instruction set.
//
// Unsigned codes times signed inputs, neighbours added up, are one instruction. Where that adds up
// in 16 bits, those hold 32 columns of four-bit codes, 8 * 2 * 15 * 127 < 2^15, and join the sum of
// 32 bits then; where it adds up in 32 bits, they go on with that sum. So sums are exact, as those
// with inputs of 16 bits are.
#pragma once

#include "packed_step.h"

namespace lmo {
namespace LMO_ISA {

constexpr int kQuadColumns = 4;
constexpr int64_t kInputStride = sizeof(ByteInputs);
constexpr int64_t kVectorByteBytes = kBlockColumns / kQuadColumns * kPairBytes;

// sums[r][v] += codes of tile v times values of row r over 32 columns.
template <class Codes, int R, int V>
LMO_INLINE void add_half(const Tiles& codes, const int8_t* values, Ints (&sums)[R][V]) {
    constexpr int kUnitColumns = Codes::kQuads * kQuadColumns;
    constexpr int kParts = R * V < kProductChains ? 2 : 1;  // of a sum, by turns
    Ints parts[kParts][R][V];
    if constexpr (kWideByteSums) {
        unrolled<R>([&](auto r) { unrolled<V>([&](auto v) { parts[0][r][v] = sums[r][v]; }); });
    }
    unrolled<kHalfColumns / kUnitColumns>([&](auto u) {
        const uint8_t* at = codes.at + u * Codes::kStepBytes;
        if constexpr (Codes::kFromMemory && u % 2 == 0) {  // a cache line
            for (int t = 0; t < V * kTilesPerVector; ++t) {
                prefetch(at + t * codes.stride + codes.ahead);
            }
        }
        decltype(Codes::load(at, 0, 0)) units[V];
        unrolled<V>([&](auto v) { units[v] = Codes::load(at, v, codes.stride); });
        unrolled<Codes::kQuads>([&](auto q) {
            constexpr int kTurn = u * Codes::kQuads + q;
            Ints quads[V];
            unrolled<V>([&](auto v) { quads[v] = Codes::template quad<q>(units[v]); });
            unrolled<R>([&](auto r) {
                const int8_t* four = values + r * kInputStride + kTurn * kQuadColumns;
                const Ints input = splat_pair(reinterpret_cast<const int16_t*>(four));
                unrolled<V>([&](auto v) {
                    Ints& part = parts[kTurn % kParts][r][v];
                    if constexpr (kTurn < kParts && !(kWideByteSums && kTurn == 0)) {
                        part = byte_products(quads[v], input);
                    } else {
                        add_byte_products(part, quads[v], input);
                    }
                });
            });
        });
    });
    unrolled<R>([&](auto r) {
        unrolled<V>([&](auto v) {
            unrolled<kParts>([&](auto p) {
                const Ints part = byte_sums(parts[p][r][v]);
                sums[r][v] = kWideByteSums && p == 0 ? part : add(sums[r][v], part);
            });
        });
    });
}

// sums[r][v] = codes of tile v times values of row r over the columns of a step.
template <class Codes, int R, int V>
LMO_INLINE void multiply_bytes(const StepOf<Codes>& step, Ints (&sums)[R][V]) {
    constexpr int64_t kUnits = kHalfColumns / (Codes::kQuads * kQuadColumns);
    unrolled<R>([&](auto r) {
        const Ints start = splat(Codes::kZero ? step.x[r].start[step.half()] : 0);
        unrolled<V>([&](auto v) { sums[r][v] = start; });
    });
    Tiles codes = step.codes;
    const int8_t* values = step.x->values + step.begin;
    const int8_t* end = values + step.count;
    for (; values < end; values += kHalfColumns) {
        add_half<Codes>(codes, values, sums);
        codes.at += kUnits * Codes::kStepBytes;
    }
}

// The codes of a step as bytes, V vectors of tiles in kVectorByteBytes each.
template <class Codes, int V>
inline Tiles unpack_quads(const StepOf<Codes>& step, uint8_t* bytes) {
    each_unit<Codes, V>(step, [&](int64_t i, int v, Ints unit) {
        uint8_t* to = bytes + v * kVectorByteBytes + i * Codes::kQuads * kPairBytes;
        unrolled<Codes::kQuads>([&](auto q) {
            store_ints(to + q * kPairBytes, Codes::template quad<q>(unit));
        });
    });
    return {bytes, kVectorByteBytes, 0};
}

}  // namespace LMO_ISA
}  // namespace lmo
