"""x @ W.T for few rows of x and a packed W, read once and never unpacked in memory.

Codes are multiplied as they are: as 16-bit floats they are exact. Only x is rounded, to 11 bits of
the largest value of its row in a group of columns, which no exponent of fp16 can overflow; so one
path serves every GPU with fp16 products (7.5 and later) and checkpoints of bf16 and fp16 alike.
Sums are float32. Columns are split into as many parts as the shape of W asks for, never that of x,
and the parts are added in their order: a row's result depends on no other row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl

from lm_offload.kernels.triton_packed import packed_arguments, weight_tile

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.quant.packed import PackedWeight

BLOCK_OUTPUTS = 64
MIN_BLOCK_ROWS, MAX_BLOCK_ROWS = 16, 64  # a tensor core takes no fewer
WANTED_PROGRAMS = 512  # a few for each processor of a large GPU
MIN_STEPS = 4  # of a part: it has its own start and end to pay
FINISH_BLOCK = 1024
SMALLEST = tl.constexpr(1e-30)


def packed_product(
    x: Tensor, weight: PackedWeight, out: Tensor, bias: Tensor | None, add: bool
) -> None:
    """out[T, N] = x[T, K] @ weight[N, K].T (+ bias[N]), or is increased by it where `add`."""
    rows, outputs = out.shape
    if not rows:
        return
    packed = packed_arguments(weight)
    steps = -(-packed.columns // packed.step)
    parts = split_parts(outputs, steps)
    block_rows = min(max(triton.next_power_of_2(rows), MIN_BLOCK_ROWS), MAX_BLOCK_ROWS)
    sums = torch.empty(parts, rows, outputs, dtype=torch.float32, device=x.device)
    grid = (triton.cdiv(outputs, BLOCK_OUTPUTS), triton.cdiv(rows, block_rows), parts)
    _multiply[grid](
        x, sums, rows, x.stride(0), triton.cdiv(steps, parts), *packed, block_rows, BLOCK_OUTPUTS
    )
    _finish[(triton.cdiv(outputs, FINISH_BLOCK), rows)](
        sums, bias, out, rows, outputs, out.stride(0), parts, add, FINISH_BLOCK
    )


def split_parts(outputs: int, steps: int) -> int:
    """Into how many parts the columns of a weight are split."""
    blocks = -(-outputs // BLOCK_OUTPUTS)
    return max(min(WANTED_PROGRAMS // blocks, steps // MIN_STEPS), 1)


@triton.jit(do_not_specialize=["rows"])
def _multiply(
    x, sums, rows, x_stride, part_steps, words, factors, outputs, columns,
    BITS: tl.constexpr, GROUP: tl.constexpr, SYMMETRIC: tl.constexpr, STEP: tl.constexpr,
    BLOCK_ROWS: tl.constexpr, BLOCK_OUTPUTS: tl.constexpr,
):  # fmt: skip
    """sums[part, T, N] = x[T, columns of the part] @ weight[N, columns of the part].T."""
    output = tl.program_id(0) * BLOCK_OUTPUTS + tl.arange(0, BLOCK_OUTPUTS)
    row, part = tl.program_id(1) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS), tl.program_id(2)
    first = part * part_steps * STEP
    total = tl.zeros((BLOCK_ROWS, BLOCK_OUTPUTS), tl.float32)
    for start in range(first, min(first + part_steps * STEP, columns), STEP):
        column = start + tl.arange(0, STEP)
        inside = (row < rows)[:, None] & (column < columns)[None, :]
        at = row.to(tl.int64)[:, None] * x_stride + column[None, :]
        values = tl.load(x + at, mask=inside, other=0.0)
        codes, scale, minimum = weight_tile(
            words, factors, output, start, outputs, columns, BITS, GROUP, SYMMETRIC, STEP
        )
        peak = tl.maximum(tl.max(tl.abs(values), 1), SMALLEST)
        product = tl.dot((values / peak[:, None]).to(tl.float16), codes.to(tl.float16))
        total += product * (peak[:, None] * scale[None, :])
        if not SYMMETRIC:
            total += tl.sum(values, 1)[:, None] * minimum[None, :]
    at = (part * rows + row).to(tl.int64)[:, None] * outputs + output[None, :]
    tl.store(sums + at, total, mask=(row < rows)[:, None] & (output < outputs)[None, :])


@triton.jit(do_not_specialize=["rows"])
def _finish(
    sums, bias, out, rows, outputs, out_stride, parts, ADD: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """A row of `out` from its parts, a bias where there is one, and itself where ADD."""
    output, row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), tl.program_id(1)
    inside = output < outputs
    total = tl.zeros((BLOCK,), tl.float32)
    for part in range(parts):
        at = (part * rows + row).to(tl.int64) * outputs + output
        total += tl.load(sums + at, mask=inside, other=0.0)
    if bias is not None:
        total += tl.load(bias + output, mask=inside, other=0.0).to(tl.float32)
    target = out + row.to(tl.int64) * out_stride + output
    if ADD:
        total += tl.load(target, mask=inside, other=0.0)
    tl.store(target, total, mask=inside)
