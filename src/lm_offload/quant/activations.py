"""Activations rounded to 8 bits, and their products with packed weights: the reference.

64 columns of a row share a scale, the largest of them over 127. Codes times rounded activations
add up in integers over a step, 32 or 64 columns that share all scales; the steps are scaled and
added in float32, in ascending order. Native kernels give the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from lm_offload.quant.packed import PackedWeight
from lm_offload.quant.packing import INT4_ZERO, unpack

BLOCK_COLUMNS = 64  # that share a scale
MOST = 127


@dataclass(frozen=True)
class RoundedRows:
    """Rows [M, K] as scales * values: values whole numbers [M, K], scales [M, blocks], float32.

    The scale of a block that holds NaN or infinity is NaN.
    """

    values: Tensor
    scales: Tensor


def round_rows(x: Tensor) -> RoundedRows:
    """Rows of float32 [M, K], rounded to nearest even."""
    columns = x.shape[1]
    padded = functional.pad(x, (0, -columns % BLOCK_COLUMNS))
    blocks = padded.view(len(x), padded.shape[1] // BLOCK_COLUMNS, BLOCK_COLUMNS)
    scales = blocks.abs().amax(2) / MOST
    scales = torch.where(scales.isfinite(), scales, torch.nan)
    large = (scales >= torch.finfo(torch.float32).tiny).unsqueeze(2)  # NaN is not
    values = torch.where(large, torch.round(blocks * (1.0 / scales).unsqueeze(2)), 0.0)
    return RoundedRows(values.flatten(1)[:, :columns], scales)


def rounded_product(rows: RoundedRows, weight: PackedWeight) -> Tensor:
    """rows[M, K] @ weight[N, K].T in float32 [M, N], with the same bits in any company.

    Sums over a step are whole numbers below 2^24: float32 holds them exactly in any order.
    """
    codes = unpack(weight)
    zero = INT4_ZERO if weight.format.name == "int4" and weight.format.symmetric else 0
    numbers = codes.values.float() - zero
    total = torch.zeros(rows.values.shape[0], weight.shape[0])
    for start, stop, group in _steps(weight):
        values, scale = rows.values[:, start:stop], rows.scales[:, start // BLOCK_COLUMNS, None]
        sums = values @ numbers[:, start:stop].T
        total += sums * (codes.scales[:, group].float() * scale)
        if codes.minimums is not None:
            total += codes.minimums[:, group].float() * (values.sum(1, keepdim=True) * scale)
    return total


def _steps(weight: PackedWeight) -> Iterator[tuple[int, int, int]]:
    """First column, last column + 1 and group of the steps, ascending."""
    columns = weight.shape[1]
    group_size = weight.format.group_size or columns
    for start in range(0, columns, min(group_size, BLOCK_COLUMNS)):
        stop = min(start + min(group_size, BLOCK_COLUMNS), columns)
        yield start, stop, start // group_size
