"""The layout of packed weights: what is stored in which byte, and the way back.

Eight rows of a matrix [N, K] make a tile, so that one vector register holds the same columns of
eight outputs and no sum runs across lanes. A tile is a list of blocks, one for each group of
columns (one for all columns where a row has a single scale), and is read front to back::

    block   | 8 scales fp16 | 8 minimums fp16 (if asymmetric) | codes of the group, 8 rows |
            | 8 scales fp32 | codes of the group, 8 rows | (fp8)
            | 8 scales e8m0 | codes of the group, 8 rows | (mxfp4)
    int8    32 bytes for 4 columns: of each row k0 k2 k1 k3, signed
    int4    32 bytes for 8 columns: of each row 4 bytes k0 k2 | k4 k6 | k1 k3 | k5 k7, low nibble
            first; codes 0 to 15, a symmetric one stands for code - 8
    fp8     as int8, with the bits of e4m3 floats
    mxfp4   as int4, with the bits of e2m1 floats

In a 32-bit lane the 16-bit halves thus hold even and odd columns: one shift and mask give pairs
of neighbours as 16-bit numbers. Rows are padded with zeros to a multiple of eight.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lm_offload.quant.columns import check_columns
from lm_offload.quant.format import TILE_ROWS, Format
from lm_offload.quant.packed import PackedWeight

INT8_ORDER = (0, 2, 1, 3)
INT4_LOW, INT4_HIGH = (0, 4, 1, 5), (2, 6, 3, 7)  # columns in the nibbles of the four bytes
SCALE_TYPES = {"fp8": torch.float32, "mxfp4": torch.float8_e8m0fnu}  # fp16 in all others
BYTE_CODES = {"int8": torch.int8, "fp8": torch.float8_e4m3fn}
INT4_ZERO = 8  # the code of zero in a symmetric format


@dataclass(frozen=True)
class Codes:
    """A quantized matrix as plain tensors: codes [N, K], scales and minimums [N, groups] fp16.

    Codes are int8 for int8, uint8 for int4 and mxfp4, whose scales are float8_e8m0fnu, and
    float8_e4m3fn for fp8, whose scales are fp32; `minimums` is None in a symmetric format.
    """

    values: Tensor
    scales: Tensor
    minimums: Tensor | None


def pack(codes: Codes, format: Format) -> PackedWeight:
    """The bytes of `codes` in the layout above."""
    rows, columns = codes.values.shape
    check_columns(format, columns)
    groups = codes.scales.shape[1]
    factors = [codes.scales, *([] if codes.minimums is None else [codes.minimums])]
    parts = [_tiles(factor.view(torch.uint8).view(rows, groups, -1)) for factor in factors]
    parts.append(_tiles(code_bytes(codes.values, format).view(rows, groups, -1, 4), lanes=True))
    data = torch.cat([part.flatten(2) for part in parts], dim=2)
    return PackedWeight(data.flatten(), format, (rows, columns))


def unpack(weight: PackedWeight) -> Codes:
    """The inverse of `pack`."""
    rows, columns = weight.shape
    format = weight.format
    groups = columns // format.group_size if format.group_size else 1
    tiles = -(-rows // TILE_ROWS)
    data = weight.data.view(tiles, groups, -1)
    scale_type = SCALE_TYPES.get(format.name, torch.float16)
    split = TILE_ROWS * scale_type.itemsize
    parts = [data[..., :split], data[..., split : 2 * split], data[..., 2 * split :]]
    if format.symmetric:
        parts = [data[..., :split], data[..., split:]]
    factors = [
        _rows(part, scale_type.itemsize, rows).contiguous().view(scale_type) for part in parts[:-1]
    ]
    lanes = parts[-1].reshape(tiles, groups, -1, TILE_ROWS, 4).permute(0, 3, 1, 2, 4)
    values = code_values(lanes.reshape(tiles * TILE_ROWS, -1, 4)[:rows], format)
    scales = factors[0].flatten(1)
    minimums = None if format.symmetric else factors[1].flatten(1)
    return Codes(values, scales, minimums)


def _tiles(values: Tensor, lanes: bool = False) -> Tensor:
    """[N, groups, ...] bytes as [tiles, groups, ...] with the eight rows side by side."""
    rows = values.shape[0]
    padded = values.new_zeros(-(-rows // TILE_ROWS) * TILE_ROWS, *values.shape[1:])
    padded[:rows] = values
    tiled = padded.view(-1, TILE_ROWS, *values.shape[1:])
    return tiled.permute(0, 2, 3, 1, 4) if lanes else tiled.permute(0, 2, 1, 3)


def _rows(part: Tensor, item_bytes: int, rows: int) -> Tensor:
    """[tiles, groups, 8 * item] bytes as [N, groups, item]."""
    tiles, groups, _ = part.shape
    apart = part.reshape(tiles, groups, TILE_ROWS, item_bytes).permute(0, 2, 1, 3)
    return apart.reshape(tiles * TILE_ROWS, groups, item_bytes)[:rows]


def code_bytes(values: Tensor, format: Format) -> Tensor:
    """[N, K] codes as bytes [N, lanes of 32 bits, 4]."""
    rows = values.shape[0]
    if format.name in BYTE_CODES:
        return values.view(torch.uint8).view(rows, -1, 4)[..., list(INT8_ORDER)]
    eights = values.view(rows, -1, 8)
    return eights[..., list(INT4_LOW)] | (eights[..., list(INT4_HIGH)] << 4)


def code_values(lanes: Tensor, format: Format) -> Tensor:
    """The inverse of `code_bytes`."""
    rows = lanes.shape[0]
    if format.name in BYTE_CODES:
        order = [INT8_ORDER.index(column) for column in range(4)]
        return lanes[..., order].reshape(rows, -1).contiguous().view(BYTE_CODES[format.name])
    eights = lanes.new_empty(*lanes.shape[:2], 8)
    eights[..., list(INT4_LOW)] = lanes & 15
    eights[..., list(INT4_HIGH)] = lanes >> 4
    return eights.view(rows, -1)
