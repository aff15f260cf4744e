"""A model whose checkpoint others quantized: its config, and its tensors on their way in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lm_offload.arch.weight_spec import GATES, LATENT_UP, WeightSpec
from lm_offload.errors import UnsupportedModelError
from lm_offload.foreign.converted import ConvertedTensor
from lm_offload.quant.format import Format
from lm_offload.storage.checkpoint import Checkpoint
from lm_offload.storage.tensor_source import TensorSource, own_tensors

Convert = Callable[[WeightSpec, Format | None], ConvertedTensor | None]


@dataclass(frozen=True)
class ForeignModel:
    """What can be known of it without reading weights."""

    name: str
    config_file: str  # where the config is said, for errors
    config: Mapping[str, Any]  # as a config.json says it, without a word of quantization
    checkpoint: Checkpoint  # tensors by the names that Hugging Face gives them
    convert: Convert  # None for a tensor that is plain floats in the checkpoint

    def tensor(self, spec: WeightSpec, wanted: Format | None) -> TensorSource:
        """A tensor as it is to be stored; `wanted` is for matrices that are floats.

        Raises CheckpointError for what is missing, contradicts itself or is not read here.
        """
        converted = self.convert(spec, wanted)
        if converted and spec.is_row_table and converted.format.is_packed:
            raise UnsupportedModelError(
                f"Tensor {spec.name} is {converted.origin}, but an embedding is read as floats or "
                "from GGUF files only; choose another checkpoint of this model."
            )
        if converted and spec.role in (LATENT_UP, *GATES) and converted.format.is_packed:
            from lm_offload.foreign.unpacked import unpacked  # with torch

            return unpacked(converted)
        return converted or own_tensors(self.checkpoint, [spec], wanted)[0]
