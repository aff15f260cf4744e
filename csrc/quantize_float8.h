// e4m3 codes and scales for groups of weights, as quant/float8.py finds them, with the same bits.
#pragma once

#include "quantize_rows.h"

namespace lmo {
namespace LMO_ISA {

constexpr float kLargestFloat8 = 448.0f;
constexpr int kOctaveParts = 4;

// The nearest e4m3 floats, ties to even: an addition whose last place is theirs, a quarter of an
// eighth of the octave, or of the lowest one, 2^-6, rounds to them.
inline Vec nearest_float8(Vec a) {
    using Words = uint32_t __attribute__((vector_size(sizeof(Vec))));
    a = max(splat(-kLargestFloat8), min(splat(kLargestFloat8), a));
    const Vec octave = max((Vec)((Words)a & 0x7F800000u), splat(0x1p-6f));
    const Vec shift = octave * splat(0x1.8p20f);
    const Vec rounded = (a + shift) - shift;
    return (Vec)((Words)rounded | ((Words)a & 0x80000000u));  // keeps the sign of a zero
}

// Their bits, in the lowest eight of each lane.
inline Ints float8_bits(Vec rounded) {
    using Words = uint32_t __attribute__((vector_size(sizeof(Vec))));
    const Words sign = (Words)rounded >> 24 & 0x80u;
    const Words size = (Words)((Vec)((Words)rounded & 0x7FFFFFFFu) * splat(0x1p-120f)) >> 20;
    return (Ints)(size | sign);
}

inline Eight float8_error(const TileRows& rows, const Eight& scales) {
    Eight error;
    for (int row = 0; row < kEightRows; ++row) {
        const Vec scale = splat(scales[row]);
        RowSum squares;
        each_sixteen(rows.columns, [&](int64_t v, int64_t column) {
            const Vec x = load(rows.row(row) + column);
            const Vec off = nearest_float8(x / scale) * scale - x;
            squares.at[v] = squares.at[v] + off * off;
        });
        error[row] = squares.total();
    }
    return error;
}

// The least scales that cover each row.
inline Eight float8_cover(const TileRows& rows) {
    Eight cover;
    for (int row = 0; row < kEightRows; ++row) {
        Vec most = zero();
        each_sixteen(rows.columns, [&](int64_t, int64_t column) {
            const Vec x = load(rows.row(row) + column);
            most = max(most, max(x, zero() - x));
        });
        cover[row] = largest(most) / kLargestFloat8;
    }
    return at_least(cover, std::numeric_limits<float>::min());
}

// A part of the octave that begins with the covering scale.
inline Eight octave_part(const Eight& cover, int part) {
    constexpr float parts[kOctaveParts] = {1.0f, 0.8408964152537145f, 0.7071067811865476f,
                                             0.5946035575013605f};
    Eight scales;
    for (int row = 0; row < kEightRows; ++row) {
        int exponent;
        const float fraction = std::frexp(cover[row], &exponent);  // from 0.5 on
        const float power = std::ldexp(fraction > 0.5f ? 1.0f : 0.5f, exponent);
        const float scale = power * parts[part];
        scales[row] = scale < cover[row] ? 2 * scale : scale;
    }
    return scales;
}

// Of the covering scale and a few behind it those of least squared error.
inline Eight float8_scales(const TileRows& rows) {
    const Eight cover = float8_cover(rows);
    Eight best = cover, least = float8_error(rows, cover);
    for (int part = 0; part < kOctaveParts; ++part) {
        const Eight scales = octave_part(cover, part);
        const Eight error = float8_error(rows, scales);
        const EightBits wins = error < least;
        best = choose(wins, scales, best);
        least = choose(wins, error, least);
    }
    return best;
}

}  // namespace LMO_ISA
}  // namespace lmo
