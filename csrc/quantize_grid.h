// Evenly spaced levels for groups of weights, as quant/search.py finds them, with the same bits.
#pragma once

#include "quantize_rows.h"

namespace lmo {
namespace LMO_ISA {

constexpr int kTrialPasses = 2, kFinalPasses = 2;
constexpr float kSmallestFit = 1e-3f;

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

// Numbers as fp16 and back.
struct HalfRows {
    F16 halves[kLanes];

    explicit HalfRows(const Eight& values) {
        float lanes[kLanes] = {};
        std::memcpy(lanes, &values, sizeof values);
        store(halves, load(lanes));
    }

    Eight wide() const {
        float lanes[kLanes];
        store(lanes, load(halves));
        Eight values;
        std::memcpy(&values, lanes, sizeof values);
        return values;
    }
};

inline Eight nearest_half(const Eight& values) { return HalfRows(values).wide(); }

// The largest fp16 numbers that are not above `values`.
inline Eight half_at_most(const Eight& values) {
    HalfRows rows(values);
    const Eight nearest = rows.wide();
    for (int i = 0; i < kEightRows; ++i) {
        uint16_t& bits = rows.halves[i].bits;
        if (!(nearest[i] > values[i])) continue;
        bits = bits == 0 ? 0x8001 : static_cast<uint16_t>(bits & 0x8000 ? bits + 1 : bits - 1);
    }
    return rows.wide();
}

inline Eight half_at_least(const Eight& values) { return -half_at_most(-values); }

// The least and the largest value of each row.
inline void range_of(const TileRows& rows, Eight& low, Eight& high) {
    for (int row = 0; row < kEightRows; ++row) {
        Vec least = load(rows.row(row)), most = least;
        each_sixteen(rows.columns, [&](int64_t, int64_t column) {
            const Vec x = load(rows.row(row) + column);
            least = min(least, x);
            most = max(most, x);
        });
        low[row] = 0.0f - largest(zero() - least);  // no zero with a sign, nor below
        high[row] = largest(most) + 0.0f;
    }
}

// The narrowest grid that spans each row.
inline Grid affine_cover(const TileRows& rows, const Levels& levels) {
    Eight low, high;
    range_of(rows, low, high);
    const Eight minimum = half_at_most(low);
    return {half_at_least((high - minimum) / eight(levels.high)), minimum};
}

// The same with minimums of zero; a scale is negative where mirrored levels fit better.
inline Grid symmetric_cover(const TileRows& rows, const Levels& levels) {
    Eight low, high;
    range_of(rows, low, high);
    const Eight upright = larger(high / eight(levels.high), low / eight(levels.low));
    const Eight mirrored = larger(high / eight(-levels.low), low / eight(-levels.high));
    const EightBits turned = mirrored < upright;
    const Eight size = half_at_least(choose(turned, mirrored, upright)) + eight(0.0f);
    return {choose(turned, -size, size), eight(0.0f)};
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

// The whole error of a grid, from the values themselves.
inline Trial measured(const TileRows& rows, const Grid& grid, const Levels& levels) {
    Trial trial{{}, grid};
    const Eight inverses = inverse(grid.scale);
    for (int row = 0; row < kEightRows; ++row) {
        const RowCodes codes(grid, inverses, levels, row);
        const Vec scale = splat(grid.scale[row]), minimum = splat(grid.minimum[row]);
        RowSum error;
        each_sixteen(rows.columns, [&](int64_t v, int64_t column) {
            const Vec x = load(rows.row(row) + column);
            const Vec off = codes(x) * scale + minimum - x;
            error.at[v] = error.at[v] + off * off;
        });
        trial.error[row] = error.total();
    }
    return trial;
}

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

template <class Fit>
inline Trial refined(const TileRows& scaled, Grid grid, const Levels& levels, const Fit& fit,
                     int passes) {
    Trial trial{};
    for (int pass = 0; pass < passes; ++pass) {
        trial = fit(moments(scaled, grid, levels));
        grid = trial.grid;
    }
    return trial;
}

// (values - minimum) / unit
inline void to_units(const TileRows& rows, const Eight& minimum, const Eight& unit, float* out) {
    for (int row = 0; row < kEightRows; ++row) {
        const Vec least = splat(minimum[row]), step = splat(unit[row]);
        float* to = out + row * rows.columns;
        each_sixteen(rows.columns, [&](int64_t, int64_t column) {
            store(to + column, (load(rows.row(row) + column) - least) / step);
        });
    }
}

// For each row the better of `cover` and what is found in units of its scale. `room` is for as
// many floats as the rows have.
template <class Fit>
inline Grid searched(const TileRows& rows, const Levels& levels, const Grid& cover, float* room) {
    const Eight unit = choose(cover.scale == eight(0.0f), eight(1.0f), cover.scale);
    to_units(rows, cover.minimum, unit, room);
    const TileRows scaled{room, rows.columns};
    const Fit fit(scaled);
    Trial best{};
    for (int i = 0; i < 2; ++i) {
        const double shrink = levels.shrinks[i];
        const Grid start{eight(static_cast<float>(shrink)),
                         eight(static_cast<float>(levels.centre * (1 - shrink)))};
        const Trial trial = refined(scaled, start, levels, fit, kTrialPasses);
        best = i == 0 ? trial : better(best, trial);
    }
    const Grid grid = refined(scaled, best.grid, levels, fit, kFinalPasses).grid;
    const Grid found{nearest_half(grid.scale * unit),
                     nearest_half(grid.minimum * unit + cover.minimum)};
    return better(measured(rows, cover, levels), measured(rows, found, levels)).grid;
}

}  // namespace LMO_ISA
}  // namespace lmo
