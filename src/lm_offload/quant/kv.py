"""Formats of the KV cache and how a head of one token is rounded; the reference of native code.

A quantized value is scale * code + minimum. int8 has one scale for each token and head, codes
-127 to 127 and no minimum; int4 has codes 0 to 15, and a scale and a minimum for each token, head
and group of at most 64 channels. Scales and minimums are fp16, and codes are made with what was
stored. A group that is not finite gets NaN as its scale, which spoils what is read from it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lm_offload.errors import ConfigError
from lm_offload.quant.format import CODE_BITS, FLOAT_BYTES, SCALE_BYTES, Format

GROUP_CHANNELS = 64
LANES = 8  # tokens or channels that lie side by side, see quant/kv_blocks.py
KV_FORMATS = {
    **{name: Format(name) for name in ("fp32", "bf16", "fp16")},
    "int8": Format("int8"),
    "int4": Format("int4", GROUP_CHANNELS, symmetric=False),
}
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


def parse_kv_format(text: str) -> Format:
    """The format of a KV cache that a user wrote; raises ConfigError."""
    format = KV_FORMATS.get(text.lower())
    if format is None:
        raise ConfigError(f"KV format {text!r} is not known; allowed are {', '.join(KV_FORMATS)}.")
    return format


def check_head_dim(format: Format, head_dim: int) -> None:
    """Raises ConfigError where heads of this size cannot be packed."""
    if format.is_packed and head_dim % LANES:
        raise ConfigError(
            f"The model has heads of {head_dim} channels, which KV format {format.name} cannot "
            f"pack; allowed are multiples of {LANES}: keep the cache in its own precision."
        )


def groups_of(format: Format, head_dim: int) -> int:
    """Scales of one head of one token."""
    return -(-head_dim // (format.group_size or head_dim)) if format.is_packed else 0


def head_bytes(format: Format, head_dim: int) -> int:
    """Exact bytes of the keys or the values of one head of one token."""
    if not format.is_packed:
        return head_dim * FLOAT_BYTES[format.name]
    factors = SCALE_BYTES * (1 if format.symmetric else 2)
    return head_dim * CODE_BITS[format.name] // 8 + groups_of(format, head_dim) * factors


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
