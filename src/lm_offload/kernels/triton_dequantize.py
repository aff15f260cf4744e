"""A packed weight turned into floats on the GPU, for products of many rows by its BLAS.

The rows of x are divided by their largest value and multiplied in fp16, which every GPU from 7.5
on does at full speed: no row can overflow, and rounding is finer than that of bf16.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl

from lm_offload.kernels.triton_packed import packed_arguments, weight_tile
from lm_offload.quant.format import TILE_ROWS
from lm_offload.quant.packed import PackedWeight

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

PIECE_ELEMENTS = 1 << 23  # of a packed matrix that are fp16 at a time: 16 MiB
BLOCK_OUTPUTS = 64
_SMALLEST = 1e-30


def dequantize(weight: PackedWeight, out: Tensor) -> None:
    """What the packed bytes stand for, into `out` [N, K] of any float dtype."""
    packed = packed_arguments(weight)
    grid = (triton.cdiv(packed.outputs, BLOCK_OUTPUTS), triton.cdiv(packed.columns, packed.step))
    _dequantize[grid](out, out.stride(0), *packed, BLOCK_OUTPUTS)


def dequantized_product(
    x: Tensor, weight: PackedWeight, out: Tensor, bias: Tensor | None, add: bool
) -> None:
    """out[T, N] = x[T, K] @ weight[N, K].T (+ bias[N]), or is increased by it where `add`."""
    peak = torch.linalg.vector_norm(x, torch.inf, dim=1, keepdim=True).clamp_(min=_SMALLEST)
    unit_rows = torch.empty(x.shape, dtype=torch.float16, device=x.device)
    torch.div(x, peak, out=unit_rows)
    for columns, piece in _pieces(weight):
        product = unit_rows @ piece.T
        target = out[:, columns]
        if add:
            torch.addcmul(target, product, peak, out=target)
        else:
            torch.mul(product, peak, out=target)
    if bias is not None:
        out += bias


def _pieces(weight: PackedWeight) -> Iterator[tuple[slice, Tensor]]:
    """Some rows of the weight after the other, whole tiles, in fp16 and in the same memory."""
    outputs, columns = weight.shape
    size = min(max(PIECE_ELEMENTS // columns // TILE_ROWS, 1) * TILE_ROWS, outputs)
    floats = torch.empty(size, columns, dtype=torch.float16, device=weight.data.device)
    size_bytes = weight.format.matrix_bytes
    for start in range(0, outputs, size):
        stop = min(start + size, outputs)
        data = weight.data[size_bytes(start, columns) : size_bytes(stop, columns)]
        piece = floats[: stop - start]
        dequantize(PackedWeight(data, weight.format, (stop - start, columns)), piece)
        yield slice(start, stop), piece


@triton.jit
def _dequantize(
    out, out_stride, words, factors, outputs, columns,
    BITS: tl.constexpr, GROUP: tl.constexpr, SYMMETRIC: tl.constexpr, STEP: tl.constexpr,
    BLOCK_OUTPUTS: tl.constexpr,
):  # fmt: skip
    """A tile of weights [BLOCK_OUTPUTS, STEP] in the dtype of `out`."""
    row = tl.program_id(0) * BLOCK_OUTPUTS + tl.arange(0, BLOCK_OUTPUTS)
    start = tl.program_id(1) * STEP
    codes, scale, minimum = weight_tile(
        words, factors, row, start, outputs, columns, BITS, GROUP, SYMMETRIC, STEP
    )
    values = codes.to(tl.float32) * scale[None, :] + minimum[None, :]
    column = start + tl.arange(0, STEP)
    at = out + row.to(tl.int64)[None, :] * out_stride + column[:, None]
    inside = (row < outputs)[None, :] & (column < columns)[:, None]
    tl.store(at, values.to(out.dtype.element_ty), mask=inside)
