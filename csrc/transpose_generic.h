// Squares of vectors turned round, and bfloat16 pairs split, in plain C++.
#pragma once

namespace lmo {
namespace LMO_ISA {

// Lane i of vector j becomes lane j of vector i.
inline void transpose(Vec (&v)[kLanes]) {
    for (int64_t i = 0; i < kLanes; ++i) {
        for (int64_t j = 0; j < i; ++j) {
            const float other = v[i][j];
            v[i][j] = v[j][i];
            v[j][i] = other;
        }
    }
}

// The first and the second bfloat16 of each 32 bits.
inline Vec first_halves(Vec pairs) {
    return lanes([&](int i) { return as_float(as_bits(pairs[i]) << 16); });
}
inline Vec second_halves(Vec pairs) {
    return lanes([&](int i) { return as_float(as_bits(pairs[i]) & ~0xFFFFu); });
}

}  // namespace LMO_ISA
}  // namespace lmo
