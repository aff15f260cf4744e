"""Tensor names and shapes of layers that keep a state, by what they do to it."""

from __future__ import annotations

from lm_offload.arch.layout_convolution import convolution_weights
from lm_offload.arch.layout_delta import delta_weights
from lm_offload.arch.layout_scan import scan_weights
from lm_offload.arch.recurrent import ConvolutionShape, DeltaShape, ScanShape
from lm_offload.arch.shapes import ModelConfig
from lm_offload.arch.weight_spec import WeightSpec


def recurrent_weights(config: ModelConfig, layer: int) -> tuple[WeightSpec, ...]:
    """Input norm, projections, convolution, and what moves the state on and norms its output."""
    shape = config.recurrent
    if isinstance(shape, ScanShape):
        return scan_weights(config, layer, shape)
    if isinstance(shape, ConvolutionShape):
        return convolution_weights(config, layer, shape)
    assert isinstance(shape, DeltaShape)
    return delta_weights(config, layer, shape)
