"""Rows of GGUF's block formats as the codes of this project's formats, or as floats.

A row is a list of blocks; the layouts are those of ggml/src/ggml-common.h.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lm_offload.foreign.converted import Loss
from lm_offload.quant.format import MXFP4_GROUP, Format
from lm_offload.quant.packing import SCALE_TYPES, Codes

# Of IQ4_NL and IQ4_XS, from ggml's kvalues_iq4nl.
_LEVELS = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
_AGAIN = (
    *("Q5_1", "Q2_K", "Q3_K", "Q5_K", "Q6_K", "TQ1_0", "TQ2_0"),
    *("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S"),
)
INT8, INT4 = Format("int8", 32), Format("int4", 32, symmetric=False)
INT4_SYMMETRIC = Format("int4", 32)
MXFP4 = Format("mxfp4", MXFP4_GROUP)


@dataclass(frozen=True)
class BlockFormat:
    """What becomes of one of GGUF's formats."""

    format: Format
    loss: Loss
    keep: Callable[[Tensor], Codes] | None = None  # of rows as bytes [n, row bytes]


def dequantize_rows(rows: Tensor, dtype: str) -> Tensor:
    """Floats [n, K] f32 of rows as bytes, by the dequantizers of the gguf package."""
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize

    return torch.from_numpy(dequantize(rows.numpy(), GGMLQuantizationType[dtype]))


def _q8_0(rows: Tensor) -> Codes:
    """34 bytes for 32 weights: d, int8 codes; a weight is d * code."""
    blocks = rows.view(len(rows), -1, 34)
    return Codes(_flat(blocks[..., 2:]).view(torch.int8), _fp16(blocks[..., :2]), None)


def _q4_0(rows: Tensor) -> Codes:
    """18 bytes: d, codes from 0 to 15; a weight is d * (code - 8)."""
    blocks = rows.view(len(rows), -1, 18)
    return Codes(_flat(_nibbles(blocks[..., 2:])), _fp16(blocks[..., :2]), None)


def _q4_1(rows: Tensor) -> Codes:
    """20 bytes: d, m, codes; a weight is d * code + m."""
    blocks = rows.view(len(rows), -1, 20)
    scales, minimums = _fp16(blocks[..., :2]), _fp16(blocks[..., 2:4])
    return Codes(_flat(_nibbles(blocks[..., 4:])), scales, minimums)


def _q5_0(rows: Tensor) -> Codes:
    """22 bytes: d, the fifth bits, the other four; a weight is d * (code - 16)."""
    blocks = rows.view(len(rows), -1, 22)
    fifth = (blocks[..., 2:6].unsqueeze(3) >> torch.arange(8, dtype=torch.uint8)) & 1
    codes = _nibbles(blocks[..., 6:]) | (fifth.flatten(2) << 4)
    return Codes(_flat(codes).view(torch.int8) - 16, _fp16(blocks[..., :2]), None)


def _q4_k(rows: Tensor) -> Codes:
    """144 bytes for 256 weights: d, dmin, 8 scales and minimums of 6 bits, codes.

    A weight is d * scale * code - dmin * minimum; these products are what is rounded to fp16.
    """
    blocks = rows.view(len(rows), -1, 144)
    sixes, codes = blocks[..., 4:16], blocks[..., 16:]
    low, mid, high = sixes[..., :4], sixes[..., 4:8], sixes[..., 8:]
    scales = torch.cat([low & 63, (high & 15) | (low >> 6 << 4)], dim=2)
    minimums = torch.cat([mid & 63, (high >> 4) | (mid >> 6 << 4)], dim=2)
    step = _fp16(blocks[..., :2]).float().unsqueeze(2) * scales
    offset = _fp16(blocks[..., 2:4]).float().unsqueeze(2) * minimums
    values = _nibbles(codes.reshape(len(rows), -1, 32))
    return Codes(_flat(values), step.flatten(1).half(), -offset.flatten(1).half())


def _mxfp4(rows: Tensor) -> Codes:
    """17 bytes for 32 weights: a power of two as e8m0, e2m1 codes.

    ggml doubles the codes and halves the scale, so the bytes are those of the format here.
    """
    blocks = rows.view(len(rows), -1, 17)
    scales = blocks[..., 0].contiguous().view(SCALE_TYPES["mxfp4"])
    return Codes(_flat(_nibbles(blocks[..., 1:])), scales, None)


def _iq4_nl(rows: Tensor) -> Codes:
    """18 bytes: d, codes of 16 uneven levels; a weight is d * level."""
    blocks = rows.view(len(rows), -1, 18)
    return Codes(_flat(_levels(blocks[..., 2:])), _fp16(blocks[..., :2]), None)


def _iq4_xs(rows: Tensor) -> Codes:
    """136 bytes for 256 weights: d, 8 scales of 6 bits (the upper two first), codes of levels.

    A weight is d * (scale - 32) * level; the first product is what is rounded to fp16.
    """
    blocks = rows.view(len(rows), -1, 136)
    shifts = torch.arange(0, 8, 2, dtype=torch.uint8)
    high = ((blocks[..., 2:4].unsqueeze(3) >> shifts) & 3).flatten(2)
    low = torch.stack([blocks[..., 4:8] & 15, blocks[..., 4:8] >> 4], dim=3).flatten(2)
    scales = (low | (high << 4)).view(torch.int8) - 32
    step = _fp16(blocks[..., :2]).float().unsqueeze(2) * scales
    codes = blocks[..., 8:].reshape(len(rows), -1, 16)
    return Codes(_flat(_levels(codes)), step.flatten(1).half(), None)


def _levels(packed: Tensor) -> Tensor:
    """[.., n] bytes as [.., 2n] levels int8."""
    return torch.tensor(_LEVELS, dtype=torch.int8)[_nibbles(packed).long()]


def _nibbles(packed: Tensor) -> Tensor:
    """[.., n] bytes as [.., 2n] codes: the low nibbles of a block come first."""
    return torch.cat([packed & 15, packed >> 4], dim=-1)


def _flat(codes: Tensor) -> Tensor:
    return codes.flatten(1).contiguous()


def _fp16(pairs: Tensor) -> Tensor:
    """[n, blocks, 2] bytes as fp16 [n, blocks]."""
    return pairs.contiguous().view(torch.float16).squeeze(2)


BLOCK_FORMATS = {
    "Q8_0": BlockFormat(INT8, Loss.NOTHING, _q8_0),
    "Q4_0": BlockFormat(INT4_SYMMETRIC, Loss.NOTHING, _q4_0),
    "Q4_1": BlockFormat(INT4, Loss.NOTHING, _q4_1),
    "Q5_0": BlockFormat(INT8, Loss.NOTHING, _q5_0),
    "Q4_K": BlockFormat(INT4, Loss.SCALES, _q4_k),
    "MXFP4": BlockFormat(MXFP4, Loss.NOTHING, _mxfp4),
    "IQ4_NL": BlockFormat(INT8, Loss.NOTHING, _iq4_nl),
    "IQ4_XS": BlockFormat(INT8, Loss.SCALES, _iq4_xs),
    **{name: BlockFormat(INT8, Loss.WEIGHTS) for name in _AGAIN},
}
