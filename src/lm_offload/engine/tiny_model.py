"""A Llama so small that its kernels have nothing to do: what remains is the engine itself."""

from __future__ import annotations

import json
import math
from pathlib import Path

from lm_offload.arch.config import load_config
from lm_offload.arch.weights import build_units
from lm_offload.units import MIB

WIDTH = 64
VOCAB_SIZE = 128  # so that the head is one unit
MAX_POSITIONS = 512


def write_tiny_model(folder: Path, layers: int) -> None:
    """A checkpoint in `folder` whose weights are all zero."""
    config = {
        "model_type": "llama",
        "vocab_size": VOCAB_SIZE,
        "hidden_size": WIDTH,
        "intermediate_size": WIDTH,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": MAX_POSITIONS,
        "torch_dtype": "bfloat16",
    }
    (folder / "config.json").write_text(json.dumps(config))
    units = build_units(load_config(folder), MIB)
    shapes = {spec.name: spec.shape for unit in units for spec in unit.weights}
    _write_zeros(folder / "model.safetensors", shapes)


def _write_zeros(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """A safetensors file of bf16 zeros."""
    header, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(end))
