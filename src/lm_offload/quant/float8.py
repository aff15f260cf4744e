"""Weights as e4m3 floats, and scales for them: the reference in plain torch.

e4m3 (Micikevicius et al. 2022, "FP8 formats for deep learning") has a sign, four bits of exponent
and three of fraction: normal numbers from 2^-6 to 448, subnormal ones down to 2^-9, no infinity.
A scale decides only where in an octave the values of a group come to lie, for no group spans more
octaves than there are. So a few scales of the octave that begins with the covering one are tried,
a power of two among them: weights that were such floats before come back as they were.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from lm_offload.quant.sums import row_sums

DTYPE = torch.float8_e4m3fn
LARGEST = 448.0
OCTAVE_PARTS = 4  # more of them gain less than 1 % of the squared error
_NAN = 0x7F


def round_to_float8(values: Tensor) -> Tensor:
    """The nearest e4m3 floats, ties to even; what is larger than all becomes the largest."""
    return values.clamp(-LARGEST, LARGEST).to(DTYPE)


def holds_nan(codes: Tensor) -> bool:
    """Whether one of these e4m3 floats is no number."""
    return bool(((codes.view(torch.uint8) & _NAN) == _NAN).any())


def float8_groups(groups: Tensor) -> tuple[Tensor, Tensor]:
    """Codes [G, n] and scales f32 [G, 1] of little squared error for finite f32 [G, n]."""
    tiny = torch.finfo(torch.float32).tiny
    cover = (groups.abs().amax(dim=1, keepdim=True) / LARGEST).clamp_min_(tiny)
    scales = functools.reduce(functools.partial(_better, groups), _octave(cover), cover)
    return round_to_float8(groups / scales), scales


def _octave(cover: Tensor) -> list[Tensor]:
    """Scales from `cover` up to twice that: powers of two, and evenly placed parts of octaves."""
    fraction, exponent = torch.frexp(cover)  # a fraction from 0.5 on
    power = torch.ldexp(torch.where(fraction > 0.5, 1.0, 0.5), exponent)
    parts = [power * 2.0 ** (-part / OCTAVE_PARTS) for part in range(OCTAVE_PARTS)]
    return [torch.where(part < cover, 2 * part, part) for part in parts]


def _better(groups: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """Group by group the scale of less squared error, `one` where both are equal."""
    return torch.where(_error(groups, other) < _error(groups, one), other, one)


def _error(groups: Tensor, scales: Tensor) -> Tensor:
    rounded = round_to_float8(groups / scales).float().mul_(scales)
    return row_sums(rounded.sub_(groups).square_())
