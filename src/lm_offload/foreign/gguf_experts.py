"""Experts in a GGUF file: those of a layer are one tensor, one matrix behind the other.

::

    blk.3.ffn_gate_exps.weight  [E, rows, columns]     and so ffn_up_exps, ffn_down_exps
    blk.3.ffn_gate_inp.weight   [E, columns]           the router
    blk.3.ffn_gate.5.weight     [rows, columns]        of early files: expert 5 alone
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from lm_offload.errors import CheckpointError
from lm_offload.storage.safetensors_header import TensorEntry

_TOGETHER = re.compile(r"blk\.(\d+)\.ffn_(gate|up|down)_exps\.weight")
_ALONE = re.compile(r"blk\.(\d+)\.ffn_(gate|up|down)\.(\d+)\.weight")
_ROUTER = re.compile(r"blk\.(\d+)\.ffn_gate_inp\.weight")


class _Names(NamedTuple):
    """What Hugging Face calls the block of a layer, and matrices of an expert in it."""

    block: str
    matrices: dict[str, str]


_NAMES = {
    "mixtral": _Names("block_sparse_moe", {"gate": "w1", "up": "w3", "down": "w2"}),
    "qwen3_moe": _Names("mlp", {"gate": "gate_proj", "up": "up_proj", "down": "down_proj"}),
}


def expert_entries(entry: TensorEntry, model_type: str) -> Iterator[TensorEntry]:
    """The tensors that Hugging Face has instead of one of a mixture; nothing for all others.

    Raises CheckpointError for experts that are no stack of matrices.
    """
    if model_type not in _NAMES:
        return
    names = _NAMES[model_type]
    if found := _ROUTER.fullmatch(entry.name):
        yield replace(entry, name=f"model.layers.{found[1]}.{names.block}.gate.weight")
    elif found := _ALONE.fullmatch(entry.name):
        yield replace(entry, name=_expert_name(names, found[1], found[2], int(found[3])))
    elif found := _TOGETHER.fullmatch(entry.name):
        yield from _stacked(entry, names, found[1], found[2])


def _stacked(entry: TensorEntry, names: _Names, layer: str, matrix: str) -> Iterator[TensorEntry]:
    if len(entry.shape) != 3:
        raise CheckpointError(
            f"Tensor {entry.name} of {entry.path.name} has shape {list(entry.shape)}, experts are "
            "a stack of matrices; download it again."
        )
    size_bytes = entry.size_bytes // entry.shape[0]
    for expert in range(entry.shape[0]):
        yield replace(
            entry,
            name=_expert_name(names, layer, matrix, expert),
            shape=entry.shape[1:],
            offset=entry.offset + expert * size_bytes,
            size_bytes=size_bytes,
        )


def _expert_name(names: _Names, layer: str, matrix: str, expert: int) -> str:
    block = f"model.layers.{layer}.{names.block}"
    return f"{block}.experts.{expert}.{names.matrices[matrix]}.weight"
