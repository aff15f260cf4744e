"""Packed weights in Triton: a tile of codes in registers, out of the bytes as they are stored.

The layout is that of quant/packing.py, which native code on the CPU reads too. It suits a GPU as
it is: the codes of eight rows and one group of columns are one run of bytes, and neighbouring
threads read neighbouring 32-bit words of it. Nothing is repacked at upload.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import triton
import triton.language as tl

from lm_offload.quant.format import CODE_BITS, TILE_ROWS
from lm_offload.quant.packing import INT4_ZERO

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.quant.packed import PackedWeight

MAX_STEP = 64  # columns of a tile: more would not fit the shared memory of every GPU
FACTOR_TYPES = {"fp8": torch.float32, "mxfp4": torch.uint8}
TILE = tl.constexpr(TILE_ROWS)
ZERO = tl.constexpr(INT4_ZERO)


class PackedArguments(NamedTuple):
    """What a kernel is told of a packed weight [N, K]."""

    words: Tensor  # int32, the whole matrix
    factors: Tensor  # the same memory as fp16; as fp32 where codes are e4m3, as uint8 where e2m1
    outputs: int  # N
    columns: int  # K
    bits: int
    group: int  # columns of a scale
    symmetric: bool
    step: int  # columns of a tile, in one group


def packed_arguments(weight: PackedWeight) -> PackedArguments:
    """Views of the packed bytes, and the constants of their format."""
    outputs, columns = weight.shape
    group = weight.format.group_size
    return PackedArguments(
        weight.data.view(torch.int32),
        weight.data.view(FACTOR_TYPES.get(weight.format.name, torch.float16)),
        outputs,
        columns,
        CODE_BITS[weight.format.name],
        group or columns,
        weight.format.symmetric,
        min(group or MAX_STEP, MAX_STEP),
    )


@triton.jit
def code_shift(column, BITS: tl.constexpr):
    """The bit of its word at which the code of a column begins; quant/packing.py has the order."""
    if BITS == 8:
        return ((column & 1) << 4) | ((column & 2) << 2)
    else:
        return ((column & 1) << 4) | ((column & 4) << 1) | ((column & 2) << 1)


@triton.jit
def codes_of(words, BITS: tl.constexpr):
    """The codes int32 [W * 32 / BITS, C] of words [W, C]."""
    PER_WORD: tl.constexpr = 32 // BITS
    COUNT: tl.constexpr = words.shape[0] * PER_WORD
    LANES: tl.constexpr = words.shape[1]
    repeated = tl.broadcast_to(words[:, None, :], (words.shape[0], PER_WORD, LANES))
    spread = tl.reshape(repeated, (COUNT, LANES))
    shift = code_shift(tl.arange(0, COUNT), BITS)[:, None]
    if BITS == 8:
        return (spread << (24 - shift)) >> 24  # with its sign
    else:
        return (spread >> shift) & 15


@triton.jit
def floats_of(codes):
    """2^-8 of the e4m3 floats whose bits codes int32 hold: fp16, which has room for all of them."""
    bits = ((codes & 0x80) << 8) | ((codes & 0x7F) << 7)
    return bits.to(tl.int16).to(tl.float16, bitcast=True)


@triton.jit
def small_floats_of(codes):
    """2^-14 of the e2m1 floats whose bits codes int32 hold: the same bits at the top of fp16."""
    bits = ((codes & 8) << 12) | ((codes & 7) << 9)
    return bits.to(tl.int16).to(tl.float16, bitcast=True)


@triton.jit
def power_of(exponents):
    """f32 of e8m0: its bits are the exponent's; zero stands for a subnormal float."""
    bits = exponents.to(tl.int32)
    return tl.where(bits == 0, 1 << 22, bits << 23).to(tl.float32, bitcast=True)


@triton.jit
def weight_tile(
    words, factors, row, start, outputs, columns,
    BITS: tl.constexpr, GROUP: tl.constexpr, SYMMETRIC: tl.constexpr, STEP: tl.constexpr,
):  # fmt: skip
    """Codes [STEP, R] of the columns from `start`, scales and minimums f32 [R], of rows [R].

    A weight is scale * code + minimum, the minimum 0 where the format is symmetric; a code is an
    int32, or fp16 where it is a float. Past the matrix everything is finite, and scales or codes 0.
    """
    FLOATS: tl.constexpr = factors.dtype.element_ty == tl.float32
    SMALL_FLOATS: tl.constexpr = factors.dtype.element_ty == tl.uint8
    PER_FACTOR: tl.constexpr = 4 if SMALL_FLOATS else (1 if FLOATS else 2)  # of a word
    HEAD_WORDS: tl.constexpr = 8 // PER_FACTOR if SYMMETRIC else 8
    GROUP_WORDS: tl.constexpr = HEAD_WORDS + GROUP * BITS // 4
    PER_WORD: tl.constexpr = 32 // BITS
    block = (row // TILE).to(tl.int64) * (columns // GROUP * GROUP_WORDS)
    block += start // GROUP * GROUP_WORDS
    inside = row < outputs
    factor = factors + PER_FACTOR * block + row % TILE
    if SMALL_FLOATS:
        scale = power_of(tl.load(factor, mask=inside, other=0))
    else:
        scale = tl.load(factor, mask=inside, other=0.0).to(tl.float32)
    word = tl.arange(0, STEP // PER_WORD)
    known = inside[None, :] & (start + word * PER_WORD < columns)[:, None]
    in_group = start % GROUP // PER_WORD + word
    at = words + (block + HEAD_WORDS + row % TILE)[None, :] + in_group[:, None] * TILE
    codes = codes_of(tl.load(at, mask=known, other=0), BITS)
    if SYMMETRIC:
        minimum = tl.zeros_like(scale)
        if FLOATS:
            codes = floats_of(codes)
            scale *= 256.0
        elif SMALL_FLOATS:
            codes = small_floats_of(codes)
            scale *= 16384.0
        elif BITS == 4:
            codes -= ZERO
    else:
        minimum = tl.load(factor + TILE, mask=inside, other=0.0).to(tl.float32)
    return codes, scale, minimum
