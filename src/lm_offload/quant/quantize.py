"""Quantize a matrix into packed bytes, and back: the reference in plain torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from lm_offload.errors import CheckpointError
from lm_offload.quant.columns import check_columns
from lm_offload.quant.float4 import float4_groups, float4_values
from lm_offload.quant.float8 import float8_groups
from lm_offload.quant.format import TILE_ROWS, Format
from lm_offload.quant.packed import PackedWeight
from lm_offload.quant.packing import INT4_ZERO, Codes, pack, unpack
from lm_offload.quant.search import Grid, Levels, affine_grid, round_to_grid, symmetric_grid

# What `quantize` does, here or elsewhere: a matrix, its format and name.
Quantize: TypeAlias = Callable[[Tensor, Format, str], PackedWeight]

CHUNK_WEIGHTS = 1 << 18  # quantized at once: each of a handful of temporaries takes 1 MiB
INT8 = Levels(-127, 127, shrinks=(1.0, 0.9))
INT4 = Levels(0, 15, shrinks=(0.97, 0.87))
INT4_SYMMETRIC = Levels(-INT4_ZERO, 15 - INT4_ZERO, shrinks=(0.97, 0.87))


def quantize(weight: Tensor, format: Format, name: str) -> PackedWeight:
    """Quantize `weight` [N, K] of any float dtype with little memory beside the result.

    Raises ConfigError where `format` cannot cut the columns into groups, and CheckpointError for
    weights that are not finite or too large for fp16 scales; both name the tensor.
    """
    rows, columns = weight.shape
    check_columns(format, columns, name)
    data = torch.empty(format.matrix_bytes(rows, columns), dtype=torch.uint8)
    for first in range(0, rows, _chunk_rows(columns)):
        chunk = weight[first : first + _chunk_rows(columns)].float()
        packed = pack(_quantize_rows(chunk, format, name), format)
        start_byte = format.matrix_bytes(first, columns)
        data[start_byte : start_byte + packed.data.numel()] = packed.data
    return PackedWeight(data, format, (rows, columns))


def dequantize(weight: PackedWeight) -> Tensor:
    """What the packed bytes stand for, f32 [N, K]."""
    codes = unpack(weight)
    rows, groups = codes.scales.shape
    values = _code_numbers(codes.values, weight.format).view(rows, groups, -1)
    if codes.minimums is None:
        zero = INT4_ZERO if weight.format.name == "int4" else 0
        values.sub_(zero).mul_(codes.scales.float().unsqueeze(2))
    else:
        values.mul_(codes.scales.float().unsqueeze(2)).add_(codes.minimums.float().unsqueeze(2))
    return values.view(weight.shape)


def _code_numbers(codes: Tensor, format: Format) -> Tensor:
    return float4_values(codes) if format.name == "mxfp4" else codes.float()


def _chunk_rows(columns: int) -> int:
    """Whole tiles, so that the bytes of chunks lie one behind the other."""
    return max(CHUNK_WEIGHTS // columns // TILE_ROWS, 1) * TILE_ROWS


def _quantize_rows(weight: Tensor, format: Format, name: str) -> Codes:
    rows, columns = weight.shape
    _check_finite(weight, format, name)
    groups = weight.reshape(-1, format.group_size or columns)
    if format.has_float_codes:
        floats, factors = _FLOAT_QUANTIZERS[format.name](groups)
        return Codes(floats.view(rows, columns), factors.view(rows, -1), None)
    codes, grid = _QUANTIZERS[format.name, format.symmetric](groups)
    if not bool(torch.isfinite(grid.scale + grid.minimum).all()):
        raise CheckpointError(
            f"{name} holds weights up to {float(weight.abs().max()):.3g}, too large for the fp16 "
            f"scales of {format}; keep its own format."
        )
    scales = grid.scale.half().view(rows, -1)
    minimums = None if format.symmetric else grid.minimum.half().view(rows, -1)
    return Codes(codes.view(rows, columns), scales, minimums)


def _check_finite(weight: Tensor, format: Format, name: str) -> None:
    if not bool(torch.isfinite(torch.stack(weight.aminmax())).all()):
        raise CheckpointError(
            f"{name} holds weights that are not finite, which {format} cannot store; repair the "
            "checkpoint or keep its own format."
        )


def _int8(groups: Tensor) -> tuple[Tensor, Grid]:
    grid = symmetric_grid(groups, INT8)
    return round_to_grid(groups, grid, INT8).to(torch.int8), grid


def _int4(groups: Tensor) -> tuple[Tensor, Grid]:
    grid = affine_grid(groups, INT4)
    return round_to_grid(groups, grid, INT4).to(torch.uint8), grid


def _int4_symmetric(groups: Tensor) -> tuple[Tensor, Grid]:
    grid = symmetric_grid(groups, INT4_SYMMETRIC)
    return round_to_grid(groups, grid, INT4_SYMMETRIC).add_(INT4_ZERO).to(torch.uint8), grid


_FLOAT_QUANTIZERS = {"fp8": float8_groups, "mxfp4": float4_groups}
_QUANTIZERS = {("int8", True): _int8, ("int4", False): _int4, ("int4", True): _int4_symmetric}
