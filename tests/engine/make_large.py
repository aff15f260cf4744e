"""A checkpoint of hundreds of megabytes, written tensor by tensor in little memory."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from lm_offload.arch.config import load_config
from lm_offload.arch.weights import WeightSpec, build_units

CONFIG = {
    "model_type": "llama",
    "vocab_size": 8192,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 7,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "eos_token_id": 2,
}


def make_large_checkpoint(folder: Path) -> int:
    """Write about 220 MiB of small random bf16 weights; returns the bytes of the weights."""
    (folder / "config.json").write_text(json.dumps(CONFIG))
    specs = [spec for unit in build_units(load_config(folder), 1 << 40) for spec in unit.weights]
    header, size_bytes = {}, 0
    for spec in specs:
        stop = size_bytes + 2 * spec.elements
        header[spec.name] = {
            "dtype": "BF16",
            "shape": spec.shape,
            "data_offsets": [size_bytes, stop],
        }
        size_bytes = stop
    text = json.dumps(header).encode()
    noise = torch.randn(1 << 20, generator=torch.Generator().manual_seed(0))
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for spec in specs:
            file.write(_values(spec, noise))
    return size_bytes


def _values(spec: WeightSpec, noise: torch.Tensor) -> bytes:
    """The same noise again and again, scaled so that activations neither vanish nor explode."""
    scaled = torch.ones_like(noise) if len(spec.shape) == 1 else noise / spec.shape[-1] ** 0.5
    piece = scaled.bfloat16().view(torch.uint8).numpy().tobytes()
    size_bytes = 2 * spec.elements
    return (piece * (-(-size_bytes // len(piece))))[:size_bytes]
