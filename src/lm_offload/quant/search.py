"""Scales and minimums of groups of weights with less squared error than round-to-nearest.

A grid that covers all values of a group wastes levels on its extremes. So shrunken grids are
tried: each alternates between rounding the values to the grid and the least-squares grid of those
codes (Lloyd's algorithm for evenly spaced levels), and the best goes on. The result is rounded to
fp16 and taken for the groups where its error is below that of the covering grid.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lm_offload.quant.sums import row_sums

TRIAL_PASSES = 2  # of each shrunken grid before the best is chosen
FINAL_PASSES = 2  # more of them gain less than 1 % of the squared error
SMALLEST_FIT = 1e-3  # a fitted scale in units of the covering one; groups of zeros would get 0


@dataclass(frozen=True)
class Levels:
    """The codes of a format, and the grids to start from as parts of the covering one."""

    low: int
    high: int
    shrinks: tuple[float, ...]  # the fewer the levels, the more it pays to clip


@dataclass(frozen=True)
class Grid:
    """The levels scale * code + minimum of each group; both are f32 [G, 1]."""

    scale: Tensor
    minimum: Tensor


@dataclass(frozen=True)
class _Trial:
    """A grid and its squared error [G, 1], less what is the same for all grids of a search."""

    error: Tensor
    grid: Grid


_Fit = Callable[[Tensor, Tensor], _Trial]


def affine_grid(values: Tensor, levels: Levels) -> Grid:
    """A good grid for each row of `values` f32 [G, n]: fp16 numbers, infinite if too large."""
    cover = affine_cover(values, levels)
    return _search(values, levels, cover, levels.high / 2, _fit_line)


def symmetric_grid(values: Tensor, levels: Levels) -> Grid:
    """The same with minimums of zero; a scale is negative where mirrored levels fit better."""
    return _search(values, levels, symmetric_cover(values, levels), 0.0, _fit_scale)


def affine_cover(values: Tensor, levels: Levels) -> Grid:
    """The narrowest fp16 grid that spans each row of `values` [G, n]; `levels.low` is zero."""
    low, high = _range(values)
    minimum = _fp16_at_most(low)
    return Grid(_fp16_at_least((high - minimum) / levels.high), minimum)


def symmetric_cover(values: Tensor, levels: Levels) -> Grid:
    """The same with minimums of zero."""
    low, high = _range(values)
    upright = torch.maximum(high / levels.high, low / levels.low)
    mirrored = torch.maximum(high / -levels.low, low / -levels.high)
    size = _fp16_at_least(torch.minimum(upright, mirrored)) + 0.0
    return Grid(torch.where(mirrored < upright, -size, size), torch.zeros_like(size))


def _range(values: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the largest value of each row; adding zero takes the sign from a zero."""
    low, high = values.aminmax(dim=1, keepdim=True)
    return low + 0.0, high + 0.0


def round_to_grid(values: Tensor, grid: Grid, levels: Levels) -> Tensor:
    """The codes of the nearest levels, f32 [G, n]; a scale of zero gives the code nearest to 0."""
    inverse = torch.where(grid.scale == 0, 0.0, grid.scale.reciprocal())
    return (values - grid.minimum).mul_(inverse).round_().clamp_(levels.low, levels.high)


def _search(values: Tensor, levels: Levels, cover: Grid, centre: float, fit: _Fit) -> Grid:
    """For each group the better of `cover` and what is found in units of its scale."""
    unit = torch.where(cover.scale == 0, 1.0, cover.scale)
    scaled = (values - cover.minimum).div_(unit)

    def refine(grid: Grid, passes: int) -> _Trial:
        for _ in range(passes):
            trial = fit(scaled, round_to_grid(scaled, grid, levels))
            grid = trial.grid
        return trial

    starts = [_shrunken(unit, shrink, centre) for shrink in levels.shrinks]
    best = functools.reduce(_better, [refine(start, TRIAL_PASSES) for start in starts])
    grid = refine(best.grid, FINAL_PASSES).grid
    found = Grid(_fp16(grid.scale * unit), _fp16(grid.minimum * unit + cover.minimum))
    return _better(_measured(values, cover, levels), _measured(values, found, levels)).grid


def _shrunken(like: Tensor, shrink: float, centre: float) -> Grid:
    """The covering grid in its own units, where values are codes, shrunk towards `centre`."""
    return Grid(torch.full_like(like, shrink), torch.full_like(like, centre * (1 - shrink)))


def _better(one: _Trial, other: _Trial) -> _Trial:
    """Group by group the grid of less error; `one` where that of `other` is equal or NaN."""
    wins = other.error < one.error
    scale = torch.where(wins, other.grid.scale, one.grid.scale)
    minimum = torch.where(wins, other.grid.minimum, one.grid.minimum)
    return _Trial(torch.where(wins, other.error, one.error), Grid(scale, minimum))


def _measured(values: Tensor, grid: Grid, levels: Levels) -> _Trial:
    """The whole error of a grid, from the values themselves."""
    error = round_to_grid(values, grid, levels).mul_(grid.scale).add_(grid.minimum).sub_(values)
    return _Trial(row_sums(error.square_()), grid)


def _fit_line(scaled: Tensor, codes: Tensor) -> _Trial:
    """Scale and minimum of least squares for given codes: a regression of values on codes."""
    count = scaled.shape[1]
    sum_x, sum_c = row_sums(scaled), row_sums(codes)
    sum_xc, sum_cc = row_sums(codes * scaled), row_sums(codes * codes)
    spread = (count * sum_cc - sum_c * sum_c).clamp_min_(1)  # an integer, 0 if codes are equal
    scale = (count * sum_xc - sum_c * sum_x).div_(spread).clamp_min_(SMALLEST_FIT)
    minimum = (sum_x - scale * sum_c) / count
    return _Trial(-(scale * sum_xc + minimum * sum_x), Grid(scale, minimum))


def _fit_scale(scaled: Tensor, codes: Tensor) -> _Trial:
    """The scale of least squares for given codes."""
    sum_xc, sum_cc = row_sums(codes * scaled), row_sums(codes * codes)
    scale = (sum_xc / sum_cc.clamp_min_(1)).clamp_min_(SMALLEST_FIT)
    return _Trial(-(scale * sum_xc), Grid(scale, torch.zeros_like(scale)))


def _fp16(values: Tensor) -> Tensor:
    """The nearest fp16 numbers, as f32."""
    return values.half().float()


def _fp16_at_most(values: Tensor) -> Tensor:
    """The largest fp16 numbers that are not above `values`, as f32."""
    nearest = values.half()
    below = torch.nextafter(nearest, nearest.new_tensor(-torch.inf))
    return torch.where(nearest.float() > values, below, nearest).float()


def _fp16_at_least(values: Tensor) -> Tensor:
    return -_fp16_at_most(-values)
