"""Experts of gpt-oss, which are stacked by layer: as MXFP4, or as floats with rows for columns.

::

    mlp.experts.gate_up_proj_blocks  [E, 2 I, H / 32, 16]  uint8, of 32 columns two in a byte,
                                                           the lower four bits first
    mlp.experts.gate_up_proj_scales  [E, 2 I, H / 32]      uint8, e8m0
    mlp.experts.gate_up_proj         [E, H, 2 I]           the same as floats
    mlp.experts.gate_up_proj_bias    [E, 2 I]
    mlp.experts.down_proj...         [E, H, I] as blocks, [E, I, H] as floats

Rows of gate and up take turns. Each expert becomes matrices of its own, without a loss.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from lm_offload.arch.fields import Fields
from lm_offload.arch.weights import WeightSpec, name_candidates
from lm_offload.foreign.converted import ConvertedTensor, Loss
from lm_offload.foreign.model import Convert
from lm_offload.foreign.parts import SCALE_DTYPES, Parts
from lm_offload.foreign.pieces import read_pieces, row_ranges
from lm_offload.quant.format import MXFP4_GROUP, Format
from lm_offload.quant.packing import SCALE_TYPES, Codes
from lm_offload.storage.checkpoint import Checkpoint
from lm_offload.storage.row_reader import read_tensor
from lm_offload.storage.safetensors_header import TensorEntry
from lm_offload.storage.tensor_source import FLOAT_FORMATS, Files, Piece

MXFP4 = Format("mxfp4", MXFP4_GROUP)
BLOCKS, SCALES, BIAS = "_blocks", "_scales", "_bias"
_EXPERT = re.compile(r"(.+\.experts\.)(\d+)\.(gate|up|down)_proj\.(weight|bias)")
_STACKS = {
    "gate": ("gate_up_proj", 2, 0),
    "up": ("gate_up_proj", 2, 1),
    "down": ("down_proj", 1, 0),
}


@dataclass(frozen=True)
class _Stack:
    """Where the rows of one matrix lie among those of all experts."""

    parts: Parts
    expert: int
    turns: int  # matrices whose rows take turns
    turn: int

    def entry(self, suffix: str, dtypes: tuple[str, ...], shape: tuple[int, ...]) -> TensorEntry:
        """The part of the expert alone; raises CheckpointError for what is missing or misshapen."""
        found = self.parts.find(suffix)
        experts = max(found.shape[0] if found and found.shape else 0, self.expert + 1)
        entry = self.parts.need(suffix, dtypes, (experts, *shape))
        size_bytes = entry.size_bytes // experts
        offset = entry.offset + self.expert * size_bytes
        return replace(entry, shape=shape, offset=offset, size_bytes=size_bytes)

    def rows_of(self, entry: TensorEntry) -> TensorEntry:
        """The same bytes as [rows, turns, what is left of a row]."""
        rows = entry.shape[0] // self.turns
        return replace(entry, shape=(rows, self.turns, math.prod(entry.shape[1:])))

    def converted(
        self,
        spec: WeightSpec,
        format: Format,
        loss: Loss,
        entries: Sequence[TensorEntry],
        decode: Callable[[Files], Iterator[Piece]],
    ) -> ConvertedTensor:
        """A tensor that is made of its share of the rows of `entries`."""
        origin = "MXFP4" if entries[0].dtype == "U8" else entries[0].dtype
        return ConvertedTensor(
            spec.name,
            spec.role,
            spec.shape,
            format,
            origin,
            loss,
            entries,
            decode,
            rows_frac=1 / self.turns,
        )


def read_mxfp4(fields: Fields, checkpoint: Checkpoint) -> Convert:
    """How to convert the tensors of a checkpoint with this `quantization_config`."""
    return partial(convert_expert, checkpoint)


def convert_expert(
    checkpoint: Checkpoint, spec: WeightSpec, wanted: Format | None
) -> ConvertedTensor | None:
    """One matrix or bias of one expert, None for any other tensor.

    `wanted` is the format of matrices that are floats. Raises CheckpointError.
    """
    found = _EXPERT.fullmatch(spec.name)
    if found is None:
        return None
    name, turns, turn = _STACKS[found[3]]
    modules = [prefix + name for prefix in name_candidates(found[1])]
    parts = [Parts(checkpoint, module) for module in modules]
    held = next((it for it in parts if it.find("") or it.find(BLOCKS)), parts[0])
    stack = _Stack(held, int(found[2]), turns, turn)
    if found[4] == "bias":
        return _bias(stack, spec)
    return _blocks(stack, spec) if held.find(BLOCKS) else _floats(stack, spec, wanted)


def _bias(stack: _Stack, spec: WeightSpec) -> ConvertedTensor:
    entry = stack.entry(BIAS, SCALE_DTYPES, (stack.turns * spec.shape[0],))

    def decode(files: Files) -> Iterator[Tensor]:
        values = read_tensor(stack.rows_of(entry), files[entry.path])
        yield values[:, stack.turn].flatten().contiguous()

    format = FLOAT_FORMATS[entry.dtype]
    return stack.converted(spec, format, Loss.NOTHING, [entry], decode)


def _floats(stack: _Stack, spec: WeightSpec, wanted: Format | None) -> ConvertedTensor:
    """Columns of the file are rows here: an expert is read whole."""
    rows, columns = spec.shape
    entry = stack.entry("", SCALE_DTYPES, (columns, stack.turns * rows))

    def decode(files: Files) -> Iterator[Tensor]:
        values = read_tensor(entry, files[entry.path]).view(columns, rows, stack.turns)
        for some in row_ranges(spec):
            yield values[:, some, stack.turn].T.contiguous()

    taken = wanted if wanted and spec.takes(wanted) else None
    loss = Loss.CHOSEN if taken else Loss.NOTHING
    format = taken or FLOAT_FORMATS[entry.dtype]
    return stack.converted(spec, format, loss, [entry], decode)


def _blocks(stack: _Stack, spec: WeightSpec) -> ConvertedTensor:
    rows, groups = stack.turns * spec.shape[0], spec.shape[1] // MXFP4_GROUP
    codes = stack.entry(BLOCKS, ("U8",), (rows, groups, MXFP4_GROUP // 2))
    scales = stack.entry(SCALES, ("U8",), (rows, groups))

    def decode(files: Files) -> Iterator[Codes]:
        powers = read_tensor(stack.rows_of(scales), files[scales.path])[:, stack.turn]
        for some, both in read_pieces(stack.rows_of(codes), spec, files):
            pairs = both[:, stack.turn]
            found = torch.stack((pairs & 15, pairs >> 4), dim=-1).flatten(1)
            yield Codes(found, powers[some].contiguous().view(SCALE_TYPES["mxfp4"]), None)

    return stack.converted(spec, MXFP4, Loss.NOTHING, [codes, scales], decode)
