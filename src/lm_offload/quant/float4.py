"""Weights as e2m1 floats with a power of two for every 32 (MXFP4): the reference in plain torch.

The formats are those of the Open Compute Project's "Microscaling Formats (MX)" 1.0: e2m1 has a
sign, two bits of exponent and one of fraction, e8m0 is an exponent alone. Weights that were such
numbers before come back as they were.
"""

from __future__ import annotations

import torch
from torch import Tensor

SCALE_DTYPE = torch.float8_e8m0fnu
LARGEST = 6.0
_SIZES = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
_VALUES = torch.cat([_SIZES, -_SIZES])  # by the four bits of a code
_CODES = torch.tensor([0, 1, 2, 3, 4, 0, 5, 0, 6, 0, 0, 0, 7], dtype=torch.uint8)  # by twice a size
_SIGN = 8
_BIAS, _MOST_EXPONENT = 127, 254  # of e8m0, in which 255 is NaN


def float4_values(codes: Tensor) -> Tensor:
    """The f32 that codes stand for, the bits of e2m1 floats in uint8."""
    return _VALUES[codes.int()]


def round_to_float4(values: Tensor) -> Tensor:
    """Codes of the nearest e2m1 floats, ties to even; what is larger than all is the largest."""
    sizes = values.abs().clamp_max(LARGEST)
    step = torch.where(sizes < 2, 0.5, torch.where(sizes < 4, 1.0, 2.0))
    doubled = torch.round(sizes / step).mul_(step).mul_(2)
    return _CODES[doubled.int()] | (torch.signbit(values).to(torch.uint8) * _SIGN)


def float4_groups(groups: Tensor) -> tuple[Tensor, Tensor]:
    """Codes [G, n] and scales e8m0 [G, 1] of little squared error for finite f32 [G, n].

    Of two powers of two: with the smaller the largest value of a group may be cut off.
    """
    _, exponent = torch.frexp(groups.abs().amax(dim=1, keepdim=True))  # of a fraction from 0.5 on
    smaller = _powers(exponent - 3)
    larger = _powers(exponent - 2)
    better = _error(groups, larger) < _error(groups, smaller)
    scales = torch.where(better, larger, smaller)
    return round_to_float4(groups / scales), scales.to(SCALE_DTYPE)


def _powers(exponents: Tensor) -> Tensor:
    """Powers of two that e8m0 has."""
    bits = (exponents + _BIAS).clamp(0, _MOST_EXPONENT).to(torch.uint8)
    return bits.view(SCALE_DTYPE).float()


def _error(groups: Tensor, scales: Tensor) -> Tensor:
    rounded = float4_values(round_to_float4(groups / scales)).mul_(scales)
    return rounded.sub_(groups).square_().sum(dim=1, keepdim=True)
