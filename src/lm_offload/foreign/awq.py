"""AWQ checkpoints in the GEMM layout, as AutoAWQ writes them.

qweight int32 [K, N / 8] has the codes of eight neighbouring rows in one word, in an order of their
own, and so has qzeros int32 [groups, N / 8]; scales are [groups, N].
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from torch import Tensor

from lm_offload.arch.fields import Fields
from lm_offload.arch.weights import WeightSpec
from lm_offload.foreign.converted import ConvertedTensor
from lm_offload.foreign.grouped import (
    GroupedRows,
    Grouping,
    grouped_matrix,
    grouping_of,
    unpack_words,
)
from lm_offload.foreign.model import Convert
from lm_offload.foreign.parts import SCALE_DTYPES, find_parts
from lm_offload.foreign.pieces import row_ranges
from lm_offload.quant.format import Format
from lm_offload.storage.checkpoint import Checkpoint
from lm_offload.storage.row_reader import read_tensor
from lm_offload.storage.safetensors_header import TensorEntry
from lm_offload.storage.tensor_source import Files

ROWS = 8  # of a word
NIBBLE_OF_ROW = [0, 4, 1, 5, 2, 6, 3, 7]


def read_awq(fields: Fields, checkpoint: Checkpoint) -> Convert:
    """How to convert the tensors of a checkpoint with this `quantization_config`."""
    fields.must_be("bits", 4)
    fields.must_be("zero_point", True)
    for key in ("version", "format"):
        fields.must_be(key, "gemm", "GEMM")
    size = fields.integer("group_size", fields.integer("q_group_size", 128), minimum=-1)
    return partial(_convert, checkpoint, Grouping(4, size, symmetric=False))


def _convert(
    checkpoint: Checkpoint, whole: Grouping, spec: WeightSpec, wanted: Format | None
) -> ConvertedTensor | None:
    parts = find_parts(checkpoint, spec, "qweight")
    if parts is None:
        return None
    grouping = grouping_of(whole, spec)
    rows, columns = spec.shape
    groups = columns // grouping.group_size
    codes = parts.need("qweight", ("I32",), (columns, rows // ROWS))
    zeros = parts.need("qzeros", ("I32",), (groups, rows // ROWS))
    scales = parts.need("scales", SCALE_DTYPES, (groups, rows))
    read = partial(_read, spec, codes, zeros, scales)
    return grouped_matrix(spec, grouping, "AWQ", [codes, zeros, scales], scales, read)


def _read(
    spec: WeightSpec, codes: TensorEntry, zeros: TensorEntry, scales: TensorEntry, files: Files
) -> Iterator[GroupedRows]:
    """The whole matrix is read at once, since a row is scattered over all of its words."""
    words = read_tensor(codes, files[codes.path])
    all_scales = read_tensor(scales, files[scales.path])
    all_zeros = _rows(read_tensor(zeros, files[zeros.path]))
    for rows in row_ranges(spec):
        found = _rows(words[:, rows.start // ROWS : -(-rows.stop // ROWS)])
        yield GroupedRows(found, all_scales[:, rows].T, all_zeros[rows])


def _rows(words: Tensor) -> Tensor:
    """Words [columns, n] as codes [8 n, columns]."""
    return unpack_words(words, 4)[..., NIBBLE_OF_ROW].flatten(1).T.contiguous()
