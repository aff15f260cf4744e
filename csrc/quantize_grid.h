// Evenly spaced levels for groups of weights, as quant/search.py finds them, with the same bits.
#pragma once

#include "quantize_fit.h"
#include "quantize_half.h"

namespace lmo {
namespace LMO_ISA {

constexpr int kTrialPasses = 2, kFinalPasses = 2;

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
