"""Tensor names and shapes of short convolutions (LFM2) as Hugging Face writes them."""

from __future__ import annotations

from lm_offload.arch.recurrent import ConvolutionShape
from lm_offload.arch.shapes import ModelConfig
from lm_offload.arch.weight_spec import WeightSpec, linear_specs, norm_spec


def convolution_weights(
    config: ModelConfig, layer: int, shape: ConvolutionShape
) -> tuple[WeightSpec, ...]:
    """Input norm, gates and what is convolved in one matrix, taps, output."""
    prefix, hidden = f"model.layers.{layer}", config.hidden_size
    block, size = f"{prefix}.conv", shape.channels
    taps = [WeightSpec(f"{block}.conv.weight", "convolution", (size, 1, shape.taps))]
    if shape.bias:
        taps.append(WeightSpec(f"{block}.conv.bias", "convolution_bias", (size,)))
    return (
        norm_spec(f"{prefix}.operator_norm", "input_norm", hidden),
        *linear_specs(f"{block}.in_proj", "in_proj", (3 * size, hidden), shape.bias),
        *taps,
        *linear_specs(f"{block}.out_proj", "o_proj", (hidden, size), shape.bias),
    )
