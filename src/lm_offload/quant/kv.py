"""How a head of one token is rounded for the KV cache; the reference of native code.

Codes are -127 to 127 in int8 and 0 to 15 in int4, and are made with the fp16 scale and minimum that
are stored. A group that is not finite gets NaN as its scale, which spoils what is read from it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lm_offload.quant.format import Format

INT8_LEVELS, INT4_LEVELS = 127, 15
F16_MAX = 65504.0


@dataclass(frozen=True)
class HeadCodes:
    """Rounded heads: codes [..., head_dim]; scales and minimums [..., groups] fp16.

    Codes are int8 for int8 and uint8 for int4; `minimums` is None in int8.
    """

    codes: Tensor
    scales: Tensor
    minimums: Tensor | None


def quantize_heads(x: Tensor, format: Format) -> HeadCodes:
    """x[..., head_dim] f32 rounded to the nearest codes."""
    low, high = _extremes(x, format)
    if format.symmetric:
        minimums, levels = None, (-INT8_LEVELS, INT8_LEVELS)
        scales = _as_scale(torch.maximum(high, -low) / INT8_LEVELS)
    else:
        minimums, levels = low.clamp(-F16_MAX, F16_MAX).half(), (0, INT4_LEVELS)
        scales = _as_scale((high - minimums.float()) / INT4_LEVELS)
    inverse = torch.where(scales > 0, 1.0 / scales.float(), 0.0)
    from_minimum = x if minimums is None else x - _spread(minimums.float(), format, x)
    levels_of_x = (from_minimum * _spread(inverse, format, x)).round().clamp(*levels).nan_to_num(0)
    codes = levels_of_x.to(torch.int8 if format.symmetric else torch.uint8)
    return HeadCodes(codes, scales, minimums)


def dequantize_heads(heads: HeadCodes, format: Format) -> Tensor:
    """The f32 values [..., head_dim] that codes stand for."""
    values = heads.codes.float() * _spread(heads.scales.float(), format, heads.codes)
    if heads.minimums is None:
        return values
    return values + _spread(heads.minimums.float(), format, heads.codes)


def _extremes(x: Tensor, format: Format) -> tuple[Tensor, Tensor]:
    """Lowest and highest value of each group [..., groups]; NaN where one is not finite."""
    groups = torch.split(x, format.group_size or x.shape[-1], dim=-1)
    low = torch.stack([group.amin(-1) for group in groups], dim=-1)
    high = torch.stack([group.amax(-1) for group in groups], dim=-1)
    spoil = (low - low) + (high - high)
    return low + spoil, high + spoil


def _as_scale(scales: Tensor) -> Tensor:
    return scales.clamp(0.0, F16_MAX).half()


def _spread(factors: Tensor, format: Format, x: Tensor) -> Tensor:
    """Factors [..., groups] for each channel of x[..., head_dim]."""
    head_dim = x.shape[-1]
    return factors.repeat_interleave(format.group_size or head_dim, dim=-1)[..., :head_dim]
