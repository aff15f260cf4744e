"""GPTQ checkpoints, as AutoGPTQ and GPTQModel write them.

qweight int32 [K * bits / 32, N] has the codes of a column's neighbours in one word, qzeros int32
[groups, N * bits / 32] those of neighbouring rows, less one in the original version of the format;
scales are [groups, N], and g_idx int32 [K] is the group of each column.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from torch import Tensor

from lm_offload.arch.fields import Fields
from lm_offload.arch.weights import WeightSpec
from lm_offload.errors import CheckpointError
from lm_offload.foreign.column_order import find_order, read_order
from lm_offload.foreign.converted import ConvertedTensor
from lm_offload.foreign.grouped import (
    WORD_BITS,
    GroupedRows,
    Grouping,
    grouped_matrix,
    grouping_of,
    unpack_words,
)
from lm_offload.foreign.model import Convert
from lm_offload.foreign.parts import SCALE_DTYPES, WHY, find_parts
from lm_offload.foreign.pieces import row_ranges
from lm_offload.quant.format import Format
from lm_offload.storage.checkpoint import Checkpoint
from lm_offload.storage.row_reader import read_tensor
from lm_offload.storage.safetensors_header import TensorEntry
from lm_offload.storage.tensor_source import Files

_ZERO_SHIFTS = {"gptq": 1, "gptq_v2": 0}  # by version of the format


def read_gptq(fields: Fields, checkpoint: Checkpoint) -> Convert:
    """How to convert the tensors of a checkpoint with this `quantization_config`."""
    fields.must_be("bits", 4, 8)
    fields.must_be("dynamic", {})
    fields.must_be("is_marlin_format", False)
    for key in ("checkpoint_format", "format"):
        fields.must_be(key, *_ZERO_SHIFTS)
    bits, group_size = fields.integer("bits"), fields.integer("group_size", minimum=-1)
    ordered = fields.flag("desc_act", False) and not fields.flag("static_groups", False)
    grouping = Grouping(bits, group_size, fields.flag("sym", True), not ordered)
    shift = _ZERO_SHIFTS[fields.text("checkpoint_format", fields.text("format", "gptq"))]
    return partial(_convert, checkpoint, grouping, shift)


def _convert(
    checkpoint: Checkpoint,
    whole: Grouping,
    zero_shift: int,
    spec: WeightSpec,
    wanted: Format | None,
) -> ConvertedTensor | None:
    parts = find_parts(checkpoint, spec, "qweight")
    if parts is None:
        return None
    grouping = grouping_of(whole, spec)
    rows, columns = spec.shape
    bits, groups = grouping.bits, columns // grouping.group_size
    codes = parts.need("qweight", ("I32",), (columns * bits // WORD_BITS, rows))
    zeros = parts.need("qzeros", ("I32",), (groups, rows * bits // WORD_BITS))
    scales = parts.need("scales", SCALE_DTYPES, (groups, rows))
    order = find_order(parts, "g_idx", columns, grouping)
    entries = [codes, zeros, scales, *([order] if order else [])]
    read = partial(_read, spec, grouping, zero_shift, codes, zeros, scales, order)
    return grouped_matrix(spec, grouping, "GPTQ", entries, scales, read)


def _read(
    spec: WeightSpec,
    grouping: Grouping,
    zero_shift: int,
    codes: TensorEntry,
    zeros: TensorEntry,
    scales: TensorEntry,
    order: TensorEntry | None,
    files: Files,
) -> Iterator[GroupedRows]:
    """The whole matrix is read at once, since a row is scattered over all of its words."""
    words = read_tensor(codes, files[codes.path])
    all_scales = read_tensor(scales, files[scales.path])
    all_zeros = _zeros(read_tensor(zeros, files[zeros.path]), grouping, zero_shift, zeros.name)
    group_of = read_order(order, grouping, files)
    for rows in row_ranges(spec):
        unpacked = unpack_words(words[:, rows], grouping.bits)
        found = unpacked.transpose(0, 1).reshape(unpacked.shape[1], -1)
        chosen = None if all_zeros is None else all_zeros[:, rows].T
        yield GroupedRows(found, all_scales[:, rows].T, chosen, group_of)


def _zeros(words: Tensor, grouping: Grouping, shift: int, name: str) -> Tensor | None:
    """Zeros [groups, N]; None for the symmetric ones, which are all the same."""
    zeros = (unpack_words(words, grouping.bits).flatten(1) + shift) & ((1 << grouping.bits) - 1)
    if not grouping.symmetric:
        return zeros
    if not bool((zeros == grouping.middle).all()):
        raise CheckpointError(
            f"Tensor {name} has zeros other than {grouping.middle}, but {WHY} says sym; use the "
            "config.json that belongs to these weights."
        )
    return None
