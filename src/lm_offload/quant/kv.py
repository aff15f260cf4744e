"""Quantized rows of the KV cache, the reference: int8 by token and head, int4 by group as well.

A row is the key or the value of one token and head. Scales cover the row, since there is no time
to search for better ones while a model runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lm_offload.errors import ConfigError
from lm_offload.quant.format import SCALE_BYTES
from lm_offload.quant.search import Levels, affine_cover, round_to_grid, symmetric_cover

KVBits = Literal[8, 4]
MAX_GROUP_CHANNELS = 64  # of an int4 row that share a scale and a minimum

_INT8 = Levels(-127, 127, shrinks=())
_INT4 = Levels(0, 15, shrinks=())


@dataclass(frozen=True)
class KVCodes:
    """Rows as codes [.., D] int8 or uint8, and scales and minimums [.., groups] fp16.

    A value is scale * code in int8 and scale * code + minimum in int4.
    """

    values: Tensor
    scales: Tensor
    minimums: Tensor | None


def channel_groups(bits: KVBits, head_dim: int) -> int:
    """Scales of a row: one in int8, one for every 64 channels or fewer in int4.

    Raises ConfigError where groups would not be of one size.
    """
    groups = 1 if bits == 8 else -(-head_dim // MAX_GROUP_CHANNELS)
    if head_dim % (2 * groups):
        raise ConfigError(
            f"Heads of {head_dim} channels cannot be cut into {groups} groups of one even size for "
            f"an int{bits} KV cache; keep the KV cache in its own format."
        )
    return groups


def row_bytes(bits: KVBits, head_dim: int) -> int:
    """Exact bytes of a row, scales and minimums included."""
    factors = 1 if bits == 8 else 2
    return head_dim * bits // 8 + channel_groups(bits, head_dim) * factors * SCALE_BYTES


def quantize_rows(rows: Tensor, bits: KVBits) -> KVCodes:
    """Quantize `rows` [.., D] of any float dtype; a row with NaN or infinity becomes NaN."""
    shape = (*rows.shape[:-1], channel_groups(bits, rows.shape[-1]))
    groups = rows.float().reshape(-1, rows.shape[-1] // shape[-1])
    if bits == 8:
        grid, levels, dtype = symmetric_cover(groups, _INT8), _INT8, torch.int8
    else:
        grid, levels, dtype = affine_cover(groups, _INT4), _INT4, torch.uint8
    codes = round_to_grid(groups, grid, levels).nan_to_num_().to(dtype)
    minimums = None if bits == 8 else grid.minimum.half().view(shape)
    return KVCodes(codes.view(rows.shape), grid.scale.half().view(shape), minimums)


def dequantize_rows(codes: KVCodes) -> Tensor:
    """What the codes stand for, f32 [.., D]."""
    values = codes.values.float().view(*codes.scales.shape, -1)
    values.mul_(codes.scales.float().unsqueeze(-1))
    if codes.minimums is not None:
        values.add_(codes.minimums.float().unsqueeze(-1))
    return values.view(codes.values.shape)
