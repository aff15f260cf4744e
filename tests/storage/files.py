"""Safetensors files written by hand, so that tests decide every byte of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lm_offload.storage.checkpoint import INDEX_FILE

NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int8: "I8"}


def header_of(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Any]]:
    """The JSON object of a file that holds `tensors` one behind the other."""
    header, offset = {}, 0
    for name, tensor in tensors.items():
        header[name] = {
            "dtype": NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + tensor.nbytes],
        }
        offset += tensor.nbytes
    return header


def raw_bytes(header: Any, tensors: Mapping[str, Tensor], pad: int = 0) -> bytes:
    """A file with this header and these data; `pad` spaces make the header longer."""
    text = json.dumps(header).encode() + b" " * pad
    data = b"".join(t.contiguous().view(torch.uint8).numpy().tobytes() for t in tensors.values())
    return len(text).to_bytes(8, "little") + text + data


def write_file(path: Path, tensors: Mapping[str, Tensor], pad: int = 0) -> Path:
    """A valid file."""
    path.write_bytes(raw_bytes(header_of(tensors), tensors, pad))
    return path


def write_shards(folder: Path, shards: Mapping[str, Mapping[str, Tensor]], pad: int = 0) -> Path:
    """Files by name and the index over them."""
    for name, tensors in shards.items():
        write_file(folder / name, tensors, pad)
    places = {tensor: name for name, tensors in shards.items() for tensor in tensors}
    (folder / INDEX_FILE).write_text(json.dumps({"weight_map": places}))
    return folder


def numbered(*shape: int, dtype: torch.dtype = torch.float32, start: int = 0) -> Tensor:
    """Values that differ from one another, as far as the dtype can tell them apart."""
    return torch.arange(start, start + torch.Size(shape).numel()).reshape(shape).to(dtype)
