"""Tensor names and shapes of state space layers (Mamba-2) as Hugging Face writes them."""

from __future__ import annotations

from typing import NamedTuple

from lm_offload.arch.recurrent import ScanShape
from lm_offload.arch.shapes import ModelConfig
from lm_offload.arch.weight_spec import WeightSpec, linear_specs, norm_spec


class _Names(NamedTuple):
    """What a model type calls the norm of what the layer reads, and the layer."""

    norm: str
    block: str


_NAMES = {
    "granitemoehybrid": _Names("input_layernorm", "mamba"),
    "nemotron_h": _Names("norm", "mixer"),
}


def scan_weights(config: ModelConfig, layer: int, shape: ScanShape) -> tuple[WeightSpec, ...]:
    """Input norm, projections, convolution, and what moves the state on and norms its output."""
    names, hidden = _NAMES[config.model_type], config.hidden_size
    prefix = f"model.layers.{layer}"
    block, heads = f"{prefix}.{names.block}", (shape.heads,)
    return (
        norm_spec(f"{prefix}.{names.norm}", "input_norm", hidden),
        *_projections(f"{block}.in_proj", hidden, shape),
        *_convolution(f"{block}.conv1d", shape),
        WeightSpec(f"{block}.dt_bias", "decay_bias", heads),
        WeightSpec(f"{block}.A_log", "decay_log", heads),
        WeightSpec(f"{block}.D", "skip", heads),
        norm_spec(f"{block}.norm", "gated_norm", shape.value_size),
        *linear_specs(f"{block}.out_proj", "o_proj", (hidden, shape.value_size), shape.bias),
    )


def _projections(name: str, hidden: int, shape: ScanShape) -> list[WeightSpec]:
    """One tensor, of which the rows that make steps are a matrix of their own, never quantized."""
    wide, every = shape.projected[0], sum(shape.projected)
    parts = {"in": (0, wide), "step": (wide, every)}
    specs = [
        WeightSpec(f"{name}.weight", f"{role}_proj", (every, hidden), rows)
        for role, rows in parts.items()
    ]
    if shape.bias:
        specs += [
            WeightSpec(f"{name}.bias", f"{role}_bias", (every,), rows)
            for role, rows in parts.items()
        ]
    return specs


def _convolution(name: str, shape: ScanShape) -> list[WeightSpec]:
    specs = [WeightSpec(f"{name}.weight", "convolution", (shape.channels, 1, shape.taps))]
    if shape.convolution_bias:
        specs.append(WeightSpec(f"{name}.bias", "convolution_bias", (shape.channels,)))
    return specs
