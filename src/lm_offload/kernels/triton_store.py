"""New keys and values written into the blocks of the cache, rounded to its format.

Codes, scales and minimums are those of quant/kv.py. Tokens share words of codes, and
every code is written by what changes in its bits: programs that write beside one another leave
each other's bits alone, in any order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl

from lm_offload.kernels.triton_cache import LANE, TOKENS, cache_arguments, head_shape
from lm_offload.kernels.triton_packed import code_shift
from lm_offload.quant.kv import F16_MAX, INT4_LEVELS, INT8_LEVELS
from lm_offload.quant.kv_blocks import PackedBlocks

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.quant.kv_blocks import Blocks

LARGEST = tl.constexpr(F16_MAX)
LEVELS_8, LEVELS_4 = tl.constexpr(INT8_LEVELS), tl.constexpr(INT4_LEVELS)
TO_INTEGER = tl.constexpr(1.5 * 2**23)  # added and taken away: rounds halves to even, as torch


def store_tokens(x: Tensor, cache: Blocks, slots: Tensor) -> None:
    """Write x[T, kv_heads, head_dim] into the blocks at `slots`, each of them given once."""
    rows, kv_heads, _ = x.shape
    if not rows:
        return
    arguments, shape = (x, x.stride()[:2], slots, cache_arguments(cache)), head_shape(cache)
    if isinstance(cache, PackedBlocks):
        _quantize[(rows, kv_heads)](*arguments, *shape, cache.lanes == "tokens")
    else:
        _store[(rows, kv_heads)](*arguments, shape.channels, shape.block)


@triton.jit
def _store(x, x_strides, slots, cache, CHANNELS: tl.constexpr, BLOCK: tl.constexpr):
    """One head of one row, rounded to the dtype of the cache."""
    row, head, channel = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.arange(0, BLOCK)
    known = channel < CHANNELS
    values = tl.load(x + row * x_strides[0] + head * x_strides[1] + channel, mask=known)
    slot = tl.load(slots + row)
    at = slot // TOKENS * cache.block_stride + head * cache.head_stride
    at += slot % TOKENS * cache.token_stride
    target = cache.data + at + channel * cache.channel_stride
    tl.store(target, values.to(cache.data.dtype.element_ty), mask=known)


@triton.jit
def _quantize(
    x, x_strides, slots, cache, CHANNELS: tl.constexpr, BITS: tl.constexpr, GROUP: tl.constexpr,
    BLOCK: tl.constexpr, BY_TOKEN: tl.constexpr,
):  # fmt: skip
    """One head of one row as codes and factors; BY_TOKEN where lanes are tokens, as in keys."""
    row, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    slot, group = tl.load(slots + row), tl.arange(0, BLOCK // GROUP)
    token = (slot % TOKENS).to(tl.int32)
    origin = slot // TOKENS * cache.block_stride + head * cache.head_stride
    channel = group[:, None] * GROUP + tl.arange(0, GROUP)[None, :]
    known = channel < CHANNELS
    at = x + row * x_strides[0] + head * x_strides[1] + channel
    codes, scale, minimum = _rounded(tl.load(at, mask=known, other=0.0), known, BITS)
    at = cache.factors + 2 * origin + CHANNELS * BITS + group * TOKENS + token
    tl.store(at, scale, mask=group * GROUP < CHANNELS)
    if BITS == 4:
        at += (CHANNELS + GROUP - 1) // GROUP * TOKENS
        tl.store(at, minimum, mask=group * GROUP < CHANNELS)
    word, shift = _place(token, channel, CHANNELS, BITS, BY_TOKEN)
    _write_codes(cache.data + origin + word, codes, shift, known, BITS)


@triton.jit
def _place(token, channel, CHANNELS: tl.constexpr, BITS: tl.constexpr, BY_TOKEN: tl.constexpr):
    """Word of a head and bit of the word where the code of a token and channel begins."""
    PER_WORD: tl.constexpr = 32 // BITS
    if BY_TOKEN:
        lane, column, columns = token, channel, CHANNELS
    else:
        lane, column, columns = channel, token, TOKENS
    word = lane // LANE * (columns // PER_WORD * LANE) + column // PER_WORD * LANE + lane % LANE
    return word, tl.broadcast_to(code_shift(column, BITS), channel.shape)


@triton.jit
def _write_codes(at, codes, shift, known, BITS: tl.constexpr):
    """Replace the codes at some bits of their words."""
    present = tl.load(at, mask=known, other=0) >> shift
    changes = ((present ^ codes) & ((1 << BITS) - 1)) << shift
    tl.atomic_xor(at, changes, mask=known, sem="relaxed")


@triton.jit
def _rounded(values, known, BITS: tl.constexpr):
    """Codes int32 [G, C] of values, and fp16 scales and minimums [G]; see `quantize_heads`."""
    spoil = tl.sum(values - values, 1)  # NaN where one is not finite
    low = tl.min(tl.where(known, values, float("inf")), 1) + spoil
    high = tl.max(tl.where(known, values, float("-inf")), 1) + spoil
    if BITS == 8:
        minimum = tl.zeros_like(low).to(tl.float16)
        scale = _scale(tl.div_rn(tl.where(high > -low, high, -low), LEVELS_8))
        lowest, highest = -LEVELS_8, LEVELS_8
    else:
        minimum = tl.where(low < -LARGEST, -LARGEST, tl.where(low > LARGEST, LARGEST, low))
        minimum = minimum.to(tl.float16)
        scale = _scale(tl.div_rn(high - minimum.to(tl.float32), LEVELS_4))
        lowest, highest = 0, LEVELS_4
    factor = scale.to(tl.float32)
    inverse = tl.where(factor > 0, tl.div_rn(1.0, factor), 0.0)
    level = (values - minimum.to(tl.float32)[:, None]) * inverse[:, None]
    level = tl.where(level == level, level, 0.0)
    level = tl.minimum(tl.maximum(level, lowest), highest)
    return ((level + TO_INTEGER) - TO_INTEGER).to(tl.int32), scale, minimum


@triton.jit
def _scale(exact):
    """A scale as it is stored; NaN stays."""
    return tl.where(exact < 0, 0.0, tl.where(exact > LARGEST, LARGEST, exact)).to(tl.float16)
