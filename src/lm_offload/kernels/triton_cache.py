"""Tiles of cached keys and values in registers, out of blocks of floats, int8 or int4.

The layouts are those of quant/kv_blocks.py. Tokens that are not read are zeros: what lies in the
unused part of a block may be anything. A tile has BLOCK channels, those of a head rounded up to a
power of two; of these, GROUP share a scale.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import triton
import triton.language as tl

from lm_offload.kernels.triton_packed import codes_of
from lm_offload.quant.format import CODE_BITS
from lm_offload.quant.kv_blocks import PackedBlocks
from lm_offload.quant.kv_format import BLOCK_TOKENS, LANES

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.quant.kv_blocks import Blocks

TOKENS = tl.constexpr(BLOCK_TOKENS)
LANE = tl.constexpr(LANES)
MIN_BLOCK = 16  # channels of the smallest tile that a tensor core takes


class CacheArguments(NamedTuple):
    """What a kernel is told of the keys or the values of a layer; strides in elements of `data`."""

    data: Tensor  # floats, or the packed bytes as int32
    factors: Tensor  # the packed bytes as fp16; unused for floats
    block_stride: int
    head_stride: int
    token_stride: int  # 0 where packed, as the next
    channel_stride: int


class HeadShape(NamedTuple):
    """The constants of a head, for which kernels are compiled."""

    channels: int
    bits: int  # of a code; 0 in a cache of floats
    group: int
    block: int


def cache_arguments(cache: Blocks) -> CacheArguments:
    """Views of the cache and its strides."""
    if not isinstance(cache, PackedBlocks):
        return CacheArguments(cache, cache, *cache.stride())
    words = cache.data.view(torch.int32)
    block_stride, head_stride, _ = words.stride()
    return CacheArguments(words, cache.data.view(torch.float16), block_stride, head_stride, 0, 0)


def head_shape(cache: Blocks) -> HeadShape:
    """The constants of the cache's heads."""
    channels = cache.shape[3]
    block = max(triton.next_power_of_2(channels), MIN_BLOCK)
    if not isinstance(cache, PackedBlocks):
        return HeadShape(channels, 0, block, block)
    group = min(cache.format.group_size or block, block)
    return HeadShape(channels, CODE_BITS[cache.format.name], group, block)


@triton.jit
def heads_at(cache, table, position, stop, head):
    """Where block and head of each position before `stop` begin, in elements."""
    number = tl.load(table + position // TOKENS, mask=position < stop, other=0)
    return number.to(tl.int64) * cache.block_stride + head * cache.head_stride


@triton.jit
def key_tile(
    keys, table, start, stop, head,
    CHANNELS: tl.constexpr, BITS: tl.constexpr, GROUP: tl.constexpr, BLOCK: tl.constexpr,
    COUNT: tl.constexpr,
):  # fmt: skip
    """Keys f32 [BLOCK, COUNT] at the positions from `start`."""
    position = start + tl.arange(0, COUNT)
    origin = heads_at(keys, table, position, stop, head)[None, :]
    token, seen = (position % TOKENS)[None, :], (position < stop)[None, :]
    if BITS == 0:
        channel = tl.arange(0, BLOCK)[:, None]
        at = keys.data + origin + token * keys.token_stride + channel * keys.channel_stride
        return tl.load(at, mask=seen & (channel < CHANNELS), other=0.0).to(tl.float32)
    else:
        PER_WORD: tl.constexpr = 32 // BITS
        word = tl.arange(0, BLOCK // PER_WORD)[:, None]
        lane = token // LANE * (CHANNELS // PER_WORD * LANE) + token % LANE
        known = seen & (word * PER_WORD < CHANNELS)
        words = tl.load(keys.data + origin + lane + word * LANE, mask=known, other=0)
        codes = codes_of(words, BITS).to(tl.float32)
        scales = keys.factors + 2 * origin + CHANNELS * BITS + token
        tile = codes * _key_factors(scales, seen, CHANNELS, GROUP, BLOCK)
        if BITS == 4:
            minimums = scales + (CHANNELS + GROUP - 1) // GROUP * TOKENS
            tile += _key_factors(minimums, seen, CHANNELS, GROUP, BLOCK)
        return tile


@triton.jit
def value_tile(
    values, table, start, stop, head,
    CHANNELS: tl.constexpr, BITS: tl.constexpr, GROUP: tl.constexpr, BLOCK: tl.constexpr,
    COUNT: tl.constexpr,
):  # fmt: skip
    """Values f32 [COUNT, BLOCK] at the positions from `start`, a multiple of a block's tokens."""
    position = start + tl.arange(0, COUNT)
    origin = heads_at(values, table, position, stop, head)[:, None]
    token, seen = (position % TOKENS)[:, None], (position < stop)[:, None]
    channel = tl.arange(0, BLOCK)[None, :]
    if BITS == 0:
        at = values.data + origin + token * values.token_stride + channel * values.channel_stride
        return tl.load(at, mask=seen & (channel < CHANNELS), other=0.0).to(tl.float32)
    else:
        PER_WORD: tl.constexpr = 32 // BITS
        first = start + tl.arange(0, COUNT // PER_WORD) * PER_WORD  # token of a word
        word = heads_at(values, table, first, stop, head) + first % TOKENS // PER_WORD * LANE
        lane = channel // LANE * (TOKENS // PER_WORD * LANE) + channel % LANE
        known = (first < stop)[:, None] & (channel < CHANNELS)
        words = tl.load(values.data + word[:, None] + lane, mask=known, other=0)
        codes = codes_of(words, BITS).to(tl.float32)
        scales = values.factors + 2 * origin + CHANNELS * BITS + token
        tile = codes * _value_factors(scales, seen, CHANNELS, GROUP, BLOCK)
        if BITS == 4:
            minimums = scales + (CHANNELS + GROUP - 1) // GROUP * TOKENS
            tile += _value_factors(minimums, seen, CHANNELS, GROUP, BLOCK)
        return tile


@triton.jit
def _key_factors(at, seen, CHANNELS: tl.constexpr, GROUP: tl.constexpr, BLOCK: tl.constexpr):
    """Factors [BLOCK, P] of each channel; those of the first group are `at` [1, P]."""
    P: tl.constexpr = at.shape[1]
    first = tl.arange(0, BLOCK // GROUP)[:, None] * GROUP
    factor = tl.load(at + first // GROUP * TOKENS, mask=seen & (first < CHANNELS), other=0.0)
    repeated = tl.broadcast_to(factor[:, None, :], (BLOCK // GROUP, GROUP, P))
    return tl.reshape(repeated, (BLOCK, P)).to(tl.float32)


@triton.jit
def _value_factors(at, seen, CHANNELS: tl.constexpr, GROUP: tl.constexpr, BLOCK: tl.constexpr):
    """Factors [P, BLOCK] of each channel; those of the first group are `at` [P, 1]."""
    P: tl.constexpr = at.shape[0]
    first = tl.arange(0, BLOCK // GROUP)[None, :] * GROUP
    factor = tl.load(at + first // GROUP * TOKENS, mask=seen & (first < CHANNELS), other=0.0)
    repeated = tl.broadcast_to(factor[:, :, None], (P, BLOCK // GROUP, GROUP))
    return tl.reshape(repeated, (P, BLOCK)).to(tl.float32)
