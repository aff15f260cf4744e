"""Bytes of what a sweep computes: what outlives a unit, for all of its rows, and intermediates."""

from __future__ import annotations

from collections.abc import Iterator

from lm_offload.arch.accounting import workspace_floats
from lm_offload.arch.config import ModelConfig
from lm_offload.units import align_up

F32_BYTES = 4


def activations(config: ModelConfig, rows: int) -> Iterator[tuple[str, int]]:
    """Purpose and bytes of what outlives a unit on the CPU."""
    hidden = hidden_bytes(config, rows)
    yield "hidden states", hidden
    if config.layer_input_size:
        yield "layer inputs", layer_inputs_bytes(config, rows)
    if config.is_moe:
        yield "expert inputs", hidden
    if config.summed_experts:
        yield "expert sums", hidden


def hidden_bytes(config: ModelConfig, rows: int) -> int:
    """Hidden states of all rows of a sweep, f32."""
    return align_up(rows * config.hidden_size * F32_BYTES)


def inner_bytes(config: ModelConfig, rows: int) -> int:
    """What the first halves of MLPs make of all rows of a sweep, f32."""
    return align_up(rows * config.intermediate_size * F32_BYTES)


def workspace_bytes(config: ModelConfig, rows: int, logit_rows: int) -> int:
    """Intermediates of one unit on one micro-batch, or of the final norm on the sampled rows."""
    return align_up(workspace_floats(config, rows, logit_rows) * F32_BYTES)


def layer_inputs_bytes(config: ModelConfig, rows: int) -> int:
    """What all layers read of the tokens themselves, f32."""
    return align_up(rows * config.layer_inputs_size * F32_BYTES)
