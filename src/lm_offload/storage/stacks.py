"""Experts that a checkpoint stacks in one tensor, whole matrices one behind the other.

::

    block_sparse_moe.input_linear.weight   [E, 2 I, H]   rows of the gate, then those of up
    block_sparse_moe.output_linear.weight  [E, H, I]
    mlp.experts.gate_up_proj               [E, 2 I, H]   the same in newer types
    mlp.experts.down_proj                  [E, H, I]     or without the mlp

Each matrix of an expert is a run of bytes of its own, so it is read from where it lies.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from lm_offload.arch.layout_experts import expert_name
from lm_offload.errors import CheckpointError
from lm_offload.storage.checkpoint import Checkpoint
from lm_offload.storage.safetensors_header import TensorEntry

_LAYER = r"(?:(?:model|language_model)\.)*layers\.(\d+)\."
_PLAIN = re.compile(_LAYER + r"mlp\.experts\.(gate_up|down)_proj")
_GRANITE = re.compile(_LAYER + r"block_sparse_moe\.(input|output)_linear\.weight")
STACKED_WHOLE = {  # by model type
    "granitemoe": _GRANITE,
    "granitemoehybrid": _GRANITE,
    "mistral4": _PLAIN,
    "gemma4_text": re.compile(_LAYER + r"experts\.(gate_up|down)_proj"),
    "qwen3_5_moe_text": _PLAIN,
}
_BOTH, _DOWN = ("gate_proj", "up_proj"), ("down_proj",)
_ROLES = {"input": _BOTH, "output": _DOWN, "gate_up": _BOTH, "down": _DOWN}


def with_single_experts(checkpoint: Checkpoint, model_type: str) -> Checkpoint:
    """The same files with a tensor for each matrix of each expert.

    Raises CheckpointError for experts that are no stack of matrices.
    """
    if model_type not in STACKED_WHOLE:
        return checkpoint
    entries = checkpoint.tensors.values()
    single = {it.name: it for entry in entries for it in _single(entry, model_type)}
    return replace(checkpoint, tensors=single)


def _single(entry: TensorEntry, model_type: str) -> Iterator[TensorEntry]:
    found = STACKED_WHOLE[model_type].fullmatch(entry.name)
    if found is None:
        yield entry
        return
    roles = _ROLES[found[2]]
    if len(entry.shape) != 3 or entry.shape[1] % len(roles) or not entry.shape[0]:
        raise CheckpointError(
            f"Tensor {entry.name} has shape {list(entry.shape)}, experts are a stack of matrices; "
            "download it again."
        )
    shape = (entry.shape[1] // len(roles), entry.shape[2])
    size_bytes = entry.size_bytes // entry.shape[0] // len(roles)
    for number in range(entry.shape[0] * len(roles)):
        expert, turn = divmod(number, len(roles))
        name = expert_name(model_type, found[1], expert, roles[turn])
        offset = entry.offset + number * size_bytes
        yield replace(entry, name=name, shape=shape, offset=offset, size_bytes=size_bytes)
