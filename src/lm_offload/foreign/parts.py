"""The tensors that together make up one quantized matrix of a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass

from lm_offload.arch.weights import WeightSpec, name_candidates
from lm_offload.errors import CheckpointError
from lm_offload.storage.checkpoint import Checkpoint
from lm_offload.storage.safetensors_header import TensorEntry

SCALE_DTYPES = ("F16", "BF16", "F32")
WHY = "the quantization_config of config.json"  # says how parts look


@dataclass(frozen=True)
class Parts:
    """`model.layers.0.mlp.up_proj.` followed by qweight, scales and so on."""

    checkpoint: Checkpoint
    module: str  # with the dot

    def find(self, suffix: str) -> TensorEntry | None:
        """A part that need not be there."""
        return self.checkpoint.tensors.get(self.module + suffix)

    def need(self, suffix: str, dtypes: tuple[str, ...], shape: tuple[int, ...]) -> TensorEntry:
        """A part of the given dtype and shape; raises CheckpointError."""
        entry = self.find(suffix)
        if entry is None:
            raise CheckpointError(
                f"Tensor {self.module}{suffix} is missing from {self.checkpoint.folder.name}; "
                "download the checkpoint again."
            )
        if entry.dtype not in dtypes or entry.shape != shape:
            raise CheckpointError(
                f"Tensor {entry.name} is {entry.dtype} {list(entry.shape)}, but {WHY} asks for "
                f"{' or '.join(dtypes)} {list(shape)}; use the config.json that belongs to these "
                "weights."
            )
        return entry


def find_parts(checkpoint: Checkpoint, spec: WeightSpec, suffix: str) -> Parts | None:
    """The parts of a matrix that has a tensor with this suffix in place of `weight`.

    None for a vector: those are not quantized, whatever its file says.
    """
    if len(spec.shape) != 2:
        return None
    for name in name_candidates(spec.name):
        parts = Parts(checkpoint, name.removesuffix("weight"))
        if name.endswith(".weight") and parts.find(suffix):
            return parts
    return None
