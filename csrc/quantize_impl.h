// Rounding weights into the packed formats: tiles of eight rows, a group of columns at a time.
// What comes out has the same bits with any instruction set and in plain torch (quant/quantize.py).
#pragma once

#include <atomic>

#include "quantize_float8.h"
#include "quantize_grid.h"
#include "quantize_pack.h"
#include "scratch.h"
#include "thread_pool.h"

namespace lmo {
namespace LMO_ISA {

// A tile's rows of one group, and room for what is made of them.
struct QuantizeRoom {
    float *values, *scaled;
    uint8_t* codes;

    explicit QuantizeRoom(int64_t group) {
        const int64_t floats = kEightRows * group;
        values = scratch(Scratch::chunk, static_cast<size_t>(2 * floats + floats / 4));
        scaled = values + floats;
        codes = reinterpret_cast<uint8_t*>(scaled + floats);
    }
};

// Rows from `first` on as floats, with zeros for those that there are none of; whether all are
// finite.
inline bool load_tile(const QuantizeArgs& a, int64_t first, int64_t column, int64_t group,
                      const QuantizeRoom& room) {
    Vec check = zero();
    std::fill_n(room.values, kEightRows * group, 0.0f);
    with_type(a.dtype, [&](auto* type) {
        const auto* x = static_cast<decltype(type)>(a.x);
        for (int64_t row = first; row < std::min(first + kEightRows, a.rows); ++row) {
            const auto* from = x + row * a.x_stride + column;
            float* to = room.values + (row - first) * group;
            each_sixteen(group, [&](int64_t, int64_t i) {
                const Vec values = load(from + i);
                check = check + (values - values);  // NaN where one is not finite
                store(to + i, values);
            });
        }
    });
    return sum(check) == 0.0f;
}

// Whole numbers of 8 bits, signed or not.
inline void put_codes(uint8_t* to, Vec codes) {
    int16_t wide[kLanes];
    store(wide, codes);
    for (int64_t i = 0; i < kLanes; ++i) to[i] = static_cast<uint8_t>(wide[i]);
}

inline void round_to_grid(const TileRows& rows, const Grid& grid, const Levels& levels, float zero,
                          uint8_t* out) {
    const Eight inverses = inverse(grid.scale);
    for (int row = 0; row < kEightRows; ++row) {
        const RowCodes codes(grid, inverses, levels, row);
        each_sixteen(rows.columns, [&](int64_t, int64_t column) {
            const Vec code = codes(load(rows.row(row) + column)) + splat(zero);
            put_codes(out + row * rows.columns + column, code);
        });
    }
}

inline void put_halves(uint8_t* out, const Eight& values) {
    const HalfRows rows(values);
    std::memcpy(out, rows.halves, kEightRows * sizeof(F16));
}

inline bool is_finite(const Eight& values) {
    float check = 0.0f;
    for (int i = 0; i < kEightRows; ++i) check += values[i] - values[i];
    return check == 0.0f;
}

// Grid and codes of a group; returns the bytes that the grid takes in front of them, 0 if it is
// not finite.
inline int64_t round_integers(const QuantizeArgs& a, const TileRows& rows, const QuantizeRoom& room,
                              uint8_t* out) {
    const Levels& levels = a.bits == 8 ? kInt8Levels
                           : a.symmetric ? kInt4SymmetricLevels : kInt4Levels;
    const Grid grid =
        a.symmetric
            ? searched<FitScale>(rows, levels, symmetric_cover(rows, levels), room.scaled)
            : searched<FitLine>(rows, levels, affine_cover(rows, levels), room.scaled);
    round_to_grid(rows, grid, levels, a.bits == 4 && a.symmetric ? 8.0f : 0.0f, room.codes);
    constexpr int64_t factor_bytes = kEightRows * sizeof(F16);
    put_halves(out, grid.scale);
    if (!a.symmetric) put_halves(out + factor_bytes, grid.minimum);
    if (!is_finite(grid.scale + grid.minimum)) return 0;
    return a.symmetric ? factor_bytes : 2 * factor_bytes;
}

inline int64_t round_floats(const TileRows& rows, const QuantizeRoom& room, uint8_t* out) {
    const Eight scales = float8_scales(rows);
    for (int row = 0; row < kEightRows; ++row) {
        const Vec scale = splat(scales[row]);
        each_sixteen(rows.columns, [&](int64_t, int64_t column) {
            uint32_t bits[kLanes];
            const Vec x = load(rows.row(row) + column);
            store_ints(bits, float8_bits(nearest_float8(x / scale)));
            uint8_t* to = room.codes + row * rows.columns + column;
            for (int64_t i = 0; i < kLanes; ++i) to[i] = static_cast<uint8_t>(bits[i]);
        });
    }
    std::memcpy(out, &scales, sizeof scales);
    return sizeof scales;
}

// Zeros for rows behind the last one, which come to lie in the same tile.
inline void clear_missing(const QuantizeRoom& room, int64_t rows, int64_t group, int64_t factors,
                          int64_t factor_bytes, uint8_t* out) {
    for (int64_t row = rows; row < kEightRows; ++row) {
        std::fill_n(room.codes + row * group, group, uint8_t{0});
        for (int64_t factor = 0; factor < factors; ++factor) {
            std::fill_n(out + (factor * kEightRows + row) * factor_bytes, factor_bytes, uint8_t{0});
        }
    }
}

// Rows `first` to `first + 8`; returns whether weights and scales are finite.
inline bool quantize_tile(const QuantizeArgs& a, int64_t first) {
    const QuantizeRoom room(a.group);
    const int64_t factors = a.symmetric ? 1 : 2, factor_bytes = a.floats ? 4 : 2;
    const int64_t head_bytes = kEightRows * factors * factor_bytes;
    const int64_t block_bytes = head_bytes + kEightRows * a.group * a.bits / 8;
    uint8_t* out = a.out + first / kEightRows * (a.columns / a.group) * block_bytes;
    const TileRows rows{room.values, a.group};
    for (int64_t column = 0; column < a.columns; column += a.group, out += block_bytes) {
        if (!load_tile(a, first, column, a.group, room)) return false;
        if (!(a.floats ? round_floats(rows, room, out) : round_integers(a, rows, room, out))) {
            return false;
        }
        clear_missing(room, a.rows - first, a.group, factors, factor_bytes, out);
        pack_codes(room.codes, a.group, a.bits, out + head_bytes);
    }
    return true;
}

inline bool quantize(const QuantizeArgs& a) {
    std::atomic<bool> finite{true};
    parallel_for((a.rows + kEightRows - 1) / kEightRows, a.threads, [&](int64_t tile) {
        if (finite && !quantize_tile(a, tile * kEightRows)) finite = false;
    });
    return finite;
}

}  // namespace LMO_ISA
}  // namespace lmo
