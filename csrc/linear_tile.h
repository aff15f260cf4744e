// The tile that every product is made of; included for each instruction set.
//
// A result is one accumulator (a vector) over ascending k, then one fixed sum of its
// lanes, whatever tile, block or thread it falls into: that is why a row's result does not
// depend on the rows computed with it.
#pragma once

#include <algorithm>

#include "lane_kinds.h"
#include "operations.h"

namespace lmo {
namespace LMO_ISA {

// 12 accumulators, 3 weights and 1 input fill 16 registers; 24, 4 and 1 fit into 32.
constexpr int kTileWeights = kRegisters == 32 ? 4 : 3;
constexpr int kTileRows = kRegisters == 32 ? 6 : 4;

template <int R, int C>
struct Accumulators {
    Vec at[R][C];

    void clear() {
        for (auto& row : at) {
            for (Vec& sum : row) sum = zero();  // in registers, where std::fill goes to memory
        }
    }
};

// acc[r][c] += weight[r, 0:k] * x[c, 0:k], lane by lane. The shorter of the two lists stays in
// registers while the other one passes by.
template <int R, int C, class W>
inline __attribute__((always_inline)) void dot_tile(Accumulators<R, C>& acc, const W* weight, int64_t weight_stride,
                     const typename Kind<W>::Input* x, int64_t x_stride, int64_t k) {
    using K = Kind<W>;
    each_step<K::kColumns>(k, [&](int64_t i, auto span) {
        if constexpr (R > C) {
            Vec input[C];
            for (int c = 0; c < C; ++c) input[c] = K::input(x + c * x_stride + i, span);
            for (int r = 0; r < R; ++r) {
                const Vec w = in_register(K::weight(weight + r * weight_stride + i, span));
                for (int c = 0; c < C; ++c) acc.at[r][c] = K::add(w, input[c], acc.at[r][c]);
            }
        } else {
            Vec w[R];
            for (int r = 0; r < R; ++r) w[r] = K::weight(weight + r * weight_stride + i, span);
            for (int c = 0; c < C; ++c) {
                const Vec input = in_register(K::input(x + c * x_stride + i, span));
                for (int r = 0; r < R; ++r) acc.at[r][c] = K::add(w[r], input, acc.at[r][c]);
            }
        }
    });
}

inline float element(const void* data, Dtype dtype, int64_t index) {
    float value = 0.0f;
    with_type(dtype, [&](auto* type) {
        value = sum(load(static_cast<decltype(type)>(data) + index, Part{1}));
    });
    return value;
}

// The sums of the lanes of R accumulators, four at a time.
template <int R, int C>
inline void tile_sums(const Accumulators<R, C>& acc, int c, float* sums) {
    int r = 0;
    for (; r + 4 <= R; r += 4) {
        four_sums(acc.at[r][c], acc.at[r + 1][c], acc.at[r + 2][c], acc.at[r + 3][c], sums + r);
    }
    for (; r < R; ++r) sums[r] = sum(acc.at[r][c]);
}

// Adds up the lanes and writes out[m + c, n + r].
template <int R, int C>
inline void finish_tile(const LinearArgs& a, int64_t m, int64_t n, const Accumulators<R, C>& acc) {
    float bias[R], sums[R];
    for (int r = 0; r < R; ++r) bias[r] = a.bias ? element(a.bias, a.bias_dtype, n + r) : 0.0f;
    for (int c = 0; c < C; ++c) {
        float* out = a.out + (m + c) * a.out_stride + n;
        tile_sums(acc, c, sums);
        for (int r = 0; r < R; ++r) {
            const float value = a.bias ? sums[r] + bias[r] : sums[r];
            out[r] = a.accumulate ? out[r] + value : value;
        }
    }
}

// Calls body(count) with a compile-time number for a count in [Min, Max] known at run time.
template <int Max, int Min = 1, class Body>
inline void with_count(int64_t count, const Body& body) {
    if constexpr (Max >= Min) {
        if (count == Max) return body(std::integral_constant<int, Max>());
        with_count<Max - 1, Min>(count, body);
    }
}

}  // namespace LMO_ISA
}  // namespace lmo
