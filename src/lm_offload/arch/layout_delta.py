"""Tensor names and shapes of gated delta nets as Hugging Face writes them."""

from __future__ import annotations

from lm_offload.arch.recurrent import DeltaShape
from lm_offload.arch.shapes import ModelConfig
from lm_offload.arch.weight_spec import WeightSpec, linear_specs, norm_spec


def delta_weights(config: ModelConfig, layer: int, shape: DeltaShape) -> tuple[WeightSpec, ...]:
    """Input norm, projections, convolution, and what decays and norms the state's output."""
    prefix = f"model.layers.{layer}"
    block, hidden = f"{prefix}.linear_attn", config.hidden_size
    kernel = (shape.channels, 1, shape.taps)
    return (
        norm_spec(f"{prefix}.input_layernorm", "input_norm", hidden),
        *_projections(shape, hidden, block),
        WeightSpec(f"{block}.conv1d.weight", "convolution", kernel),
        WeightSpec(f"{block}.dt_bias", "decay_bias", (shape.heads,)),
        WeightSpec(f"{block}.A_log", "decay_log", (shape.heads,)),
        norm_spec(f"{block}.norm", "gated_norm", shape.value_dim),
        *linear_specs(f"{block}.out_proj", "o_proj", (hidden, shape.value_size), False),
    )


def _projections(shape: DeltaShape, hidden: int, block: str) -> list[WeightSpec]:
    rows = {"in_proj_qkv": ("qkv_proj", shape.channels), "in_proj_z": ("z_proj", shape.value_size)}
    gates = {"in_proj_b": ("b_proj", shape.heads), "in_proj_a": ("a_proj", shape.heads)}
    if shape.fused:
        rows = {"in_proj_qkvz": ("qkvz_proj", shape.channels + shape.value_size)}
        gates = {"in_proj_ba": ("ba_proj", 2 * shape.heads)}
    return [
        spec
        for name, (role, size) in (rows | gates).items()
        for spec in linear_specs(f"{block}.{name}", role, (size, hidden), False)
    ]
