"""What makes keys and values of a narrow vector: one matrix, which newer GGUF files have as two.

::

    kv_b_proj           [heads * (N + V), rank]   of each head the rows of its keys, then of values
    blk.3.attn_k_b      [heads, rank, N]          those of the keys, columns for rows
    blk.3.attn_v_b      [heads, V, rank]
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from lm_offload.arch.shapes import LatentShape
from lm_offload.arch.weights import WeightSpec
from lm_offload.errors import CheckpointError, UnsupportedModelError
from lm_offload.foreign.converted import ConvertedTensor, Loss
from lm_offload.foreign.gguf_blocks import BLOCK_FORMATS, dequantize_rows
from lm_offload.foreign.unpacked import FLOATS
from lm_offload.storage.checkpoint import Checkpoint
from lm_offload.storage.row_reader import read_tensor
from lm_offload.storage.safetensors_header import TensorEntry
from lm_offload.storage.tensor_source import FLOAT_FORMATS, Files


def halves_of(name: str) -> tuple[str, str]:
    """What the parts for keys and for values are called."""
    return name.replace("kv_b_proj", "k_b_proj"), name.replace("kv_b_proj", "v_b_proj")


def latent_up(checkpoint: Checkpoint, latent: LatentShape, spec: WeightSpec) -> ConvertedTensor:
    """The matrix in float32, of both parts; raises CheckpointError, UnsupportedModelError."""
    heads = spec.shape[0] // (latent.other_dim + latent.value_dim)
    shapes = (
        (heads, latent.kv_rank, latent.other_dim),
        (heads, latent.value_dim, latent.kv_rank),
    )
    names = zip(halves_of(spec.name), shapes, strict=True)
    keys, values = (_part(checkpoint, name, shape) for name, shape in names)

    def decode(files: Files) -> Iterator[Tensor]:
        parts = [
            part
            for head in range(heads)
            for part in (_head(keys, head, files).T, _head(values, head, files))
        ]
        yield torch.cat(parts)

    origin = keys.dtype if keys.dtype == values.dtype else f"{keys.dtype} and {values.dtype}"
    return ConvertedTensor(
        spec.name, spec.role, spec.shape, FLOATS, origin, Loss.NOTHING, [keys, values], decode
    )


def _part(checkpoint: Checkpoint, name: str, shape: tuple[int, ...]) -> TensorEntry:
    entry = checkpoint.tensors.get(name)
    if entry is None or entry.shape != shape:
        found = "is missing" if entry is None else f"has shape {list(entry.shape)}"
        raise CheckpointError(
            f"Tensor {name} of {checkpoint.folder.name} {found}, its metadata asks for "
            f"{list(shape)}; download it again."
        )
    if entry.dtype not in (*FLOAT_FORMATS, *BLOCK_FORMATS):
        raise UnsupportedModelError(
            f"Tensor {name} of {entry.path.name} is {entry.dtype}, which is not read here; take "
            "another file of this model."
        )
    return entry


def _head(entry: TensorEntry, head: int, files: Files) -> Tensor:
    """The matrix of one head in float32."""
    size_bytes = entry.size_bytes // entry.shape[0]
    part = replace(entry, offset=entry.offset + head * size_bytes, size_bytes=size_bytes)
    if entry.dtype in FLOAT_FORMATS:
        return read_tensor(replace(part, shape=entry.shape[1:]), files[entry.path]).float()
    packed = replace(part, dtype="U8", shape=(entry.shape[1], size_bytes // entry.shape[1]))
    return dequantize_rows(read_tensor(packed, files[entry.path]), entry.dtype)
