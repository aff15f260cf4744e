// Codes of a grid of evenly spaced levels, and the grid of least squares for given codes; see
// quant/search.py.
#pragma once

#include "quantize_rows.h"

namespace lmo {
namespace LMO_ISA {

constexpr float kSmallestFit = 1e-3f;  // a fitted scale in units of the covering one

// The codes of a format, and the grids to start from as parts of the covering one.
struct Levels {
    float low, high;
    double shrinks[2], centre;  // of the covering grid, towards which it is shrunk
};

constexpr Levels kInt8Levels = {-127, 127, {1.0, 0.9}, 0.0};
constexpr Levels kInt4Levels = {0, 15, {0.97, 0.87}, 7.5};
constexpr Levels kInt4SymmetricLevels = {-8, 7, {0.97, 0.87}, 0.0};

struct Grid {
    Eight scale, minimum;
};

// A grid and its squared error, less what is the same for all grids of a search.
struct Trial {
    Eight error;
    Grid grid;
};

// Row by row the grid of less error; `one` where both are equal.
inline Trial better(const Trial& one, const Trial& other) {
    const EightBits wins = other.error < one.error;
    return {choose(wins, other.error, one.error),
            {choose(wins, other.grid.scale, one.grid.scale),
             choose(wins, other.grid.minimum, one.grid.minimum)}};
}

inline Eight inverse(Eight scale) {
    return choose(scale == eight(0.0f), eight(0.0f), eight(1.0f) / scale);
}

// The nearest levels of one row's values.
struct RowCodes {
    Vec minimum, inverse, low, high;

    RowCodes(const Grid& grid, const Eight& inverses, const Levels& levels, int row)
        : minimum(splat(grid.minimum[row])), inverse(splat(inverses[row])),
          low(splat(levels.low)), high(splat(levels.high)) {}

    Vec operator()(Vec values) const {
        return max(low, min(high, round((values - minimum) * inverse)));
    }
};

// Sums over the codes c of a grid and the values x.
struct Moments {
    Eight c, xc, cc;
};

inline Moments moments(const TileRows& rows, const Grid& grid, const Levels& levels) {
    Moments found;
    const Eight inverses = inverse(grid.scale);
    for (int row = 0; row < kEightRows; ++row) {
        const RowCodes codes(grid, inverses, levels, row);
        RowSum c, xc, cc;
        each_sixteen(rows.columns, [&](int64_t v, int64_t column) {
            const Vec x = load(rows.row(row) + column), code = codes(x);
            c.at[v] = c.at[v] + code;
            xc.at[v] = xc.at[v] + code * x;
            cc.at[v] = cc.at[v] + code * code;
        });
        float sums[4];
        four_sums(c.folded(), xc.folded(), cc.folded(), zero(), sums);
        found.c[row] = sums[0];
        found.xc[row] = sums[1];
        found.cc[row] = sums[2];
    }
    return found;
}

// Scale and minimum of least squares for given codes: a regression of values on codes.
struct FitLine {
    Eight count, sum_x;

    explicit FitLine(const TileRows& rows) : count(eight(static_cast<float>(rows.columns))) {
        for (int row = 0; row < kEightRows; ++row) {
            RowSum x;
            each_sixteen(rows.columns, [&](int64_t v, int64_t column) {
                x.at[v] = x.at[v] + load(rows.row(row) + column);
            });
            sum_x[row] = x.total();
        }
    }

    Trial operator()(const Moments& m) const {
        const Eight spread = at_least(count * m.cc - m.c * m.c, 1.0f);
        const Eight scale = at_least((count * m.xc - m.c * sum_x) / spread, kSmallestFit);
        const Eight minimum = (sum_x - scale * m.c) / count;
        return {-(scale * m.xc + minimum * sum_x), {scale, minimum}};
    }
};

// The scale of least squares for given codes.
struct FitScale {
    explicit FitScale(const TileRows&) {}

    Trial operator()(const Moments& m) const {
        const Eight scale = at_least(m.xc / at_least(m.cc, 1.0f), kSmallestFit);
        return {-(scale * m.xc), {scale, eight(0.0f)}};
    }
};

}  // namespace LMO_ISA
}  // namespace lmo
