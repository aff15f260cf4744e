"""Root mean square norms and the rotary embedding: one program for each row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl

if TYPE_CHECKING:
    from torch import Tensor

MAX_WARPS = 16
VALUES_PER_WARP = 512
HEADS = 8  # of a program that rotates


def rms_norm(x: Tensor, weight: Tensor, eps: float, offset: float, out: Tensor) -> None:
    """out[T, H] = x / rms(x) * (offset + weight[H]); `out` may be `x`."""
    rows, width = x.shape
    if rows:
        block = triton.next_power_of_2(width)
        warps = min(max(block // VALUES_PER_WARP, 1), MAX_WARPS)
        _rms_norm[(rows,)](
            x, weight, out, x.stride(0), out.stride(0), eps, offset, width, block, num_warps=warps
        )


def rotary(x: Tensor, cos: Tensor, sin: Tensor) -> None:
    """See `Kernels.rotary`."""
    rows, heads, _ = x.shape
    if rows:
        half = cos.shape[1]
        _rotate[(rows, triton.cdiv(heads, HEADS))](
            x, cos, sin, x.stride(0), x.stride(1), cos.stride(0), sin.stride(0),
            heads, half, HEADS, triton.next_power_of_2(half),
        )  # fmt: skip


@triton.jit
def _rms_norm(
    x, weight, out, x_row, out_row, eps, offset, WIDTH: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """A row divided by its root mean square and multiplied by offset + weight."""
    row, column = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK)
    inside = column < WIDTH
    values = tl.load(x + row * x_row + column, mask=inside, other=0.0)
    inverse = tl.rsqrt(tl.sum(values * values) / WIDTH + eps)
    factor = tl.load(weight + column, mask=inside, other=0.0).to(tl.float32) + offset
    tl.store(out + row * out_row + column, values * inverse * factor, mask=inside)


@triton.jit
def _rotate(
    x, cos, sin, x_row, x_head, cos_row, sin_row, heads, HALF: tl.constexpr,
    HEADS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Some heads of a row turned in place."""
    row, channel = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK)[None, :]
    head = tl.program_id(1) * HEADS + tl.arange(0, HEADS)[:, None]
    inside = (head < heads) & (channel < HALF)
    at = x + row * x_row + head * x_head + channel
    low = tl.load(at, mask=inside)
    high = tl.load(at + HALF, mask=inside)
    c = tl.load(cos + row * cos_row + channel, mask=channel < HALF)
    s = tl.load(sin + row * sin_row + channel, mask=channel < HALF)
    tl.store(at, low * c - high * s, mask=inside)
    tl.store(at + HALF, high * c + low * s, mask=inside)
