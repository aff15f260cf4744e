// Integers beside the floats of simd_generic.h: eight sums of 32 bits, sixteen factors of 16 bits.
#pragma once

#include "simd_generic.h"

namespace lmo {
namespace LMO_ISA {

using Ints = int32_t __attribute__((vector_size(32)));
using Pairs = int16_t __attribute__((vector_size(32)));

inline Ints no_ints() { return Ints{}; }
inline Ints add(Ints a, Ints b) { return a + b; }
inline Vec to_floats(Ints a) { return __builtin_convertvector(a, Vec); }

// In each lane the sum of the products of two pairs.
inline Ints dot_pairs(Pairs a, Pairs b) {
    Ints sums{};
    for (int i = 0; i < 8; ++i) sums[i] = a[2 * i] * b[2 * i] + a[2 * i + 1] * b[2 * i + 1];
    return sums;
}

// The pair that lies at p, in every lane.
inline Pairs splat_pair(const int16_t* p) {
    Pairs pairs{};
    for (int i = 0; i < 16; ++i) pairs[i] = p[i % 2];
    return pairs;
}

// 32 bytes of codes, eight lanes of `kColumns<Bits>` columns, as pairs of columns; the order of
// bytes and nibbles is that of quant/packing.py.
template <int Bits>
inline void load_codes(const uint8_t* p, Pairs* pairs) {
    for (int i = 0; i < 16; ++i) {
        const int word = p[2 * i] | p[2 * i + 1] << 8;
        for (int part = 0; part < 16 / Bits; ++part) {
            const int code = word >> (Bits * part) & ((1 << Bits) - 1);
            pairs[part][i] = static_cast<int16_t>(Bits == 8 ? static_cast<int8_t>(code) : code);
        }
    }
}

// Rounds eight values within int16 to nearest even; any number where a value is NaN.
inline void store_rounded(int16_t* p, Vec a) {
    for (int i = 0; i < 8; ++i) {
        p[i] = a[i] == a[i] ? static_cast<int16_t>(std::nearbyint(a[i])) : int16_t{0};
    }
}

// `a` where `test` is not zero, else 0.
inline Vec where_nonzero(Vec test, Vec a) {
    return lanes([&](int i) { return test[i] != 0.0f ? a[i] : 0.0f; });
}

}  // namespace LMO_ISA
}  // namespace lmo
