// The squares of four lanes of a transpose, from vectors of any number of quarters, by the exchanges
// that each instruction set has. Included by transpose_avx2.h and transpose_avx512.h.
#pragma once

namespace lmo {
namespace LMO_ISA {

// quads[4 g + c]: lane c of each quarter of vectors 4 g to 4 g + 3.
template <int N>
inline __attribute__((always_inline)) void transpose_quarters(const Vec (&v)[N], Vec (&quads)[N]) {
#pragma GCC unroll 4
    for (int i = 0; i < N; i += 4) {
        const Vec low = low_lanes(v[i], v[i + 1]), high = high_lanes(v[i], v[i + 1]);
        const Vec low2 = low_lanes(v[i + 2], v[i + 3]), high2 = high_lanes(v[i + 2], v[i + 3]);
        quads[i] = first_pairs(low, low2), quads[i + 1] = last_pairs(low, low2);
        quads[i + 2] = first_pairs(high, high2), quads[i + 3] = last_pairs(high, high2);
    }
}

}  // namespace LMO_ISA
}  // namespace lmo
