"""Integer codes with a scale and a zero for each group of columns, as GPTQ, AWQ and others have.

A weight is scale * (code - zero). Where groups, bits and zeros have a counterpart in the formats
here the codes are kept; else the weights are quantized again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from lm_offload.arch.weights import WeightSpec
from lm_offload.errors import CheckpointError
from lm_offload.foreign.converted import ConvertedTensor, Loss
from lm_offload.foreign.parts import WHY
from lm_offload.quant.format import GROUP_SIZES, Format
from lm_offload.quant.packing import Codes
from lm_offload.storage.safetensors_header import TensorEntry
from lm_offload.storage.tensor_source import Files, Piece

WORD_BITS = 32


@dataclass(frozen=True)
class Grouping:
    """How a matrix was quantized."""

    bits: int  # 4 or 8
    group_size: int  # columns that share a scale; all of them where a row has one scale
    symmetric: bool  # zeros are the middle of the codes, and are not given
    in_order: bool = True  # a group is of neighbouring columns

    @property
    def middle(self) -> int:
        """The code of zero where it is symmetric."""
        return 1 << (self.bits - 1)


@dataclass(frozen=True)
class GroupedRows:
    """Some rows: codes uint8 [n, K], scales [n, groups] of any float dtype, zeros like them."""

    codes: Tensor
    scales: Tensor
    zeros: Tensor | None  # None in a symmetric grouping
    group_of_column: Tensor | None = None  # [K], None where groups are in order


def grouped_matrix(
    spec: WeightSpec,
    grouping: Grouping,
    method: str,
    entries: Sequence[TensorEntry],
    scales: TensorEntry,
    read: Callable[[Files], Iterator[GroupedRows]],
) -> ConvertedTensor:
    """A matrix whose rows `read` gives; `method` is what people call it."""
    kept = kept_format(grouping, spec.shape[1])
    order = "" if grouping.in_order else " in activation order"
    found = partial(
        ConvertedTensor,
        spec.name,
        spec.role,
        spec.view_shape,
        origin=f"{method} int{grouping.bits}{order}",
        entries=entries,
        rows_frac=spec.view_shape[0] / spec.shape[0],
    )
    if kept is None:
        decode = partial(_pieces, read, partial(_floats, grouping.middle))
        return found(finer_format(spec.shape[1]), loss=Loss.WEIGHTS, decode=decode)
    exact = grouping.symmetric and scales.dtype == "F16"
    decode = partial(_pieces, read, partial(_kept_codes, kept, spec.name))
    return found(kept, loss=Loss.NOTHING if exact else Loss.SCALES, decode=decode)


def grouping_of(whole: Grouping, spec: WeightSpec) -> Grouping:
    """The grouping of one matrix; a size below one stands for one group of all columns."""
    columns = spec.shape[1]
    size = whole.group_size if whole.group_size > 0 else columns
    if columns % size:
        raise CheckpointError(
            f"Tensor {spec.name} has {columns} columns, which the group size {size} of {WHY} does "
            "not divide; use the config.json that belongs to these weights."
        )
    return replace(whole, group_size=size, in_order=whole.in_order or size == columns)


def kept_format(grouping: Grouping, columns: int) -> Format | None:
    """The format with the same codes, larger groups cut into equal ones; None if there is none."""
    if not grouping.in_order or (grouping.bits == 8 and not grouping.symmetric):
        return None
    if grouping.bits == 8 and grouping.group_size == columns:
        return Format("int8", 0)
    sizes = [size for size in GROUP_SIZES if grouping.group_size % size == 0]
    if not sizes:
        return None
    if grouping.bits == 8:
        return Format("int8", max(sizes))
    return Format("int4", max(sizes), grouping.symmetric)


def finer_format(columns: int) -> Format:
    """What weights are quantized to again: 8 bits add little to the error they have."""
    return Format("int8", 64 if columns % 64 == 0 else 32)


def unpack_words(words: Tensor, bits: int) -> Tensor:
    """The codes in int32 words [..], the lowest bits first: uint8 [.., 32 / bits]."""
    data = words.contiguous().view(torch.uint8).view(*words.shape, 4)
    return data if bits == 8 else torch.stack((data & 15, data >> 4), dim=-1).flatten(-2)


def _pieces(
    read: Callable[[Files], Iterator[GroupedRows]],
    to_piece: Callable[[GroupedRows], Piece],
    files: Files,
) -> Iterator[Piece]:
    return map(to_piece, read(files))


def _kept_codes(format: Format, name: str, rows: GroupedRows) -> Codes:
    columns = rows.codes.shape[1]
    groups = columns // (format.group_size or columns)
    copies = groups // rows.scales.shape[1]
    scales = _fp16(rows.scales, name).repeat_interleave(copies, dim=1)
    codes = (rows.codes ^ 128).view(torch.int8) if format.name == "int8" else rows.codes
    if rows.zeros is None:
        return Codes(codes, scales, None)
    zeros = rows.zeros.float().repeat_interleave(copies, dim=1)
    return Codes(codes, scales, (-scales.float() * zeros).half())


def _floats(middle: int, rows: GroupedRows) -> Tensor:
    columns = rows.codes.shape[1]
    group_of = rows.group_of_column
    if group_of is None:
        group_of = torch.arange(columns) // (columns // rows.scales.shape[1])
    zeros = middle if rows.zeros is None else rows.zeros.float()[:, group_of]
    return (rows.codes.float() - zeros).mul_(rows.scales.float()[:, group_of])


def _fp16(scales: Tensor, name: str) -> Tensor:
    halves = scales.half()
    if bool((~torch.isfinite(halves) | ((halves == 0) & (scales != 0))).any()):
        raise CheckpointError(
            f"Tensor {name} has scales that are not finite or too large or too small for fp16; "
            "take the original checkpoint."
        )
    return halves
