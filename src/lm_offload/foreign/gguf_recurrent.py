"""What llama.cpp's converter does to the tensors of recurrent layers, undone.

Logarithms of decays are stored as the decays' rates, -exp(log); heads and gates are reordered as
`gguf_heads.py` says.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from lm_offload.arch.recurrent import DeltaShape, RecurrentShape
from lm_offload.arch.weights import WeightSpec
from lm_offload.errors import CheckpointError
from lm_offload.foreign.converted import ConvertedTensor
from lm_offload.foreign.gguf_heads import (
    head_order,
    in_column_order,
    in_row_order,
    mixed_order,
)
from lm_offload.foreign.gguf_tensor import gate_of_both, gguf_tensor, in_shape
from lm_offload.quant.format import Format
from lm_offload.storage.checkpoint import Checkpoint
from lm_offload.storage.row_reader import read_tensor
from lm_offload.storage.safetensors_header import TensorEntry
from lm_offload.storage.tensor_source import Files

_BLOCKS = (".linear_attn.", ".mamba.")
_GATES = {"b_proj": 0, "a_proj": 1}  # which half of a key head's rows they are


def recurrent_tensor(
    checkpoint: Checkpoint,
    shape: RecurrentShape,
    spec: WeightSpec,
    wanted: Format | None,
    in_turns: bool,
) -> ConvertedTensor | None:
    """A tensor of a recurrent layer that is not stored as it is; None for all others.

    `in_turns` says that heads of values that share a key are apart. Raises CheckpointError.
    """
    if not any(block in spec.name for block in _BLOCKS):
        return None
    both = checkpoint.tensors.get(gate_of_both(spec.name))
    if spec.role in _GATES and both is not None and isinstance(shape, DeltaShape):
        return in_row_order(both, spec, _gate_rows(shape, _GATES[spec.role]), wanted)
    entry = checkpoint.tensors.get(spec.name)
    if entry is None:
        return None
    order = _order(shape, spec.role) if in_turns and isinstance(shape, DeltaShape) else None
    if spec.role == "decay_log":
        return _logarithms(in_shape(entry, spec), spec, order)
    if order is None:
        return None
    if spec.role == "o_proj" and isinstance(shape, DeltaShape):
        return in_column_order(entry, spec, shape, wanted)
    return in_row_order(in_shape(entry, spec), spec, order, wanted)


def _order(shape: DeltaShape, role: str) -> Tensor | None:
    """Of the rows, or of the columns of what is projected back."""
    if role in ("qkv_proj", "convolution"):
        return mixed_order(shape)
    if role in ("z_proj", "o_proj"):
        return head_order(shape, shape.value_dim)
    if role in ("b_proj", "a_proj", "decay_bias", "decay_log"):
        return head_order(shape, 1)
    return None


def _gate_rows(shape: DeltaShape, half: int) -> Tensor:
    """The rows of rates or of decays where each key head has both, one behind the other."""
    rows = torch.arange(2 * shape.heads).view(shape.key_heads, 2, -1)
    return rows[:, half].flatten()


def _logarithms(entry: TensorEntry, spec: WeightSpec, order: Tensor | None) -> ConvertedTensor:
    plain = gguf_tensor(entry, spec, None, None)

    def decode(files: Files) -> Iterator[Tensor]:
        rates = -read_tensor(entry, files[entry.path])
        if not bool((rates > 0).all()):
            raise CheckpointError(
                f"Tensor {entry.name} of {entry.path.name} has rates of decay that are not below "
                "zero; download it again."
            )
        yield torch.log(rates if order is None else rates[order])

    return replace(plain, decode=decode)
