"""Experts in a GGUF file: those of a layer are one tensor, one matrix behind the other.

::

    blk.3.ffn_gate_exps.weight  [E, rows, columns]     and so ffn_up_exps, ffn_down_exps
    blk.3.ffn_gate_exps.bias    [E, rows]              where experts have biases
    blk.3.ffn_gate_inp.weight   [E, columns]           the router, maybe with a bias [E]
    blk.3.exp_probs_b.bias      [E]                    what is added when experts are chosen
    blk.3.ffn_gate_shexp.weight [rows, columns]        of the expert that every token uses
    blk.3.ffn_gate_inp_shexp.weight [columns]          what scores that one
    blk.3.ffn_gate.5.weight     [rows, columns]        of early files: expert 5 alone
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from lm_offload.arch.layout_experts import (
    choice_bias_name,
    expert_name,
    router_name,
    shared_name,
)
from lm_offload.errors import CheckpointError
from lm_offload.storage.safetensors_header import TensorEntry

_TOGETHER = re.compile(r"blk\.(\d+)\.ffn_(gate|up|down)_exps\.(weight|bias)")
_ALONE = re.compile(r"blk\.(\d+)\.ffn_(gate|up|down)\.(\d+)\.weight")
_ROUTER = re.compile(r"blk\.(\d+)\.ffn_gate_inp\.(weight|bias)")
_CHOICE_BIAS = re.compile(r"blk\.(\d+)\.exp_probs_b(\.bias)?")
_SHARED = re.compile(r"blk\.(\d+)\.ffn_(gate|up|down)_shexp\.weight")
_SHARED_GATE = re.compile(r"blk\.(\d+)\.ffn_gate_inp_shexp\.weight")
_DIMENSIONS = {"weight": (3, "matrices"), "bias": (2, "vectors")}  # of a stack, and of what

MIXTURES = (
    *("mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "gpt_oss", "granitemoe", "glm4_moe", "dots1"),
    *("ernie4_5_moe", "hunyuan_v1_moe", "minimax_m2", "qwen3_next", "qwen3_5_moe_text"),
    *("granitemoehybrid", "deepseek_v2", "deepseek_v3", "lfm2_moe", "afmoe", "exaone_moe"),
)


def expert_entries(entry: TensorEntry, model_type: str) -> Iterator[TensorEntry]:
    """The tensors that Hugging Face has instead of one of a mixture; nothing for all others.

    Raises CheckpointError for experts that are no stack of matrices, or of biases.
    """
    if model_type not in MIXTURES:
        return
    if name := _beside_experts(entry.name, model_type):
        yield replace(entry, name=name)
    elif found := _ALONE.fullmatch(entry.name):
        role = f"{found[2]}_proj"
        yield replace(entry, name=expert_name(model_type, found[1], int(found[3]), role))
    elif found := _TOGETHER.fullmatch(entry.name):
        yield from _stacked(entry, model_type, found)


def _beside_experts(name: str, model_type: str) -> str | None:
    """Of the router, its bias and the expert that every token uses; None for all others."""
    if found := _ROUTER.fullmatch(name):
        return _with_suffix(router_name(model_type, found[1]), found[2])
    if found := _CHOICE_BIAS.fullmatch(name):
        return choice_bias_name(model_type, found[1])
    if found := _SHARED.fullmatch(name):
        if model_type == "granitemoehybrid" and found[2] == "down":
            return f"{shared_name(model_type, found[1])}.output_linear.weight"
        return f"{shared_name(model_type, found[1])}.{found[2]}_proj.weight"
    if found := _SHARED_GATE.fullmatch(name):
        return f"{shared_name(model_type, found[1])}_gate.weight"
    return None


def _stacked(entry: TensorEntry, model_type: str, found: re.Match[str]) -> Iterator[TensorEntry]:
    layer, role, suffix = found[1], f"{found[2]}_proj", found[3]
    dimensions, parts = _DIMENSIONS[suffix]
    if len(entry.shape) != dimensions:
        raise CheckpointError(
            f"Tensor {entry.name} of {entry.path.name} has shape {list(entry.shape)}, experts are "
            f"a stack of {parts}; download it again."
        )
    size_bytes = entry.size_bytes // entry.shape[0]
    for expert in range(entry.shape[0]):
        yield replace(
            entry,
            name=_with_suffix(expert_name(model_type, layer, expert, role), suffix),
            shape=entry.shape[1:],
            offset=entry.offset + expert * size_bytes,
            size_bytes=size_bytes,
        )


def _with_suffix(name: str, suffix: str) -> str:
    return f"{name.removesuffix('weight')}{suffix}"
