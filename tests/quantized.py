"""Toy checkpoints whose shapes suit the groups, and what their quantized weights stand for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from lm_offload.quant.format import Format, parse_format
from lm_offload.quant.quantize import dequantize, quantize

TABLES = ("embed_tokens.weight", "embed_positions.weight")
UNTOUCHED = (
    ".gate.weight",
    ".kv_b_proj.weight",
    ".router.weight",
    ".shared_expert_gate.weight",
    ".in_proj_a.weight",
    ".in_proj_b.weight",
    ".in_proj_ba.weight",
    "_bias",
)
HEAD = "lm_head.weight"
_MIXTURE = ["intermediate_size", "moe_intermediate_size"]
_NEMOTRON = ("moe_intermediate_size", "moe_shared_expert_intermediate_size")


def toy_shapes(model_type: str) -> dict[str, int]:
    """Fields of `make_toy_checkpoint` that make every matrix divisible by 64."""
    names = {
        "opt": ["ffn_dim"],
        "llama4_text": ["intermediate_size", "intermediate_size_mlp"],
        "qwen3_moe": ["moe_intermediate_size"],
        **dict.fromkeys(("glm4_moe", "dots1", "ernie4_5_moe", "deepseek_v3"), _MIXTURE),
        **dict.fromkeys(("afmoe", "exaone_moe", "lfm2_moe"), _MIXTURE),
        "lfm2": ["intermediate_size", "block_multiple_of"],
        "qwen3_next": ["moe_intermediate_size", "shared_expert_intermediate_size"],
        "qwen3_5_moe_text": ["moe_intermediate_size", "shared_expert_intermediate_size"],
        "granitemoehybrid": ["intermediate_size", "shared_intermediate_size"],
        "nemotron_h": ["intermediate_size", *_NEMOTRON],
        "qwen2_moe": ["moe_intermediate_size", "shared_expert_intermediate_size"],
    }
    return dict.fromkeys(names.get(model_type, ["intermediate_size"]), 128)


def write_dequantized(folder: Path, target: Path, weight_format: str) -> Path:
    """A copy whose matrices are what `weight_format` makes of them, in float32; its tables stay.

    A head that is tied to its table becomes one of its own.
    """
    shutil.copytree(folder, target)
    config = json.loads((folder / "config.json").read_text())
    (target / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    tensors = load_file(folder / "model.safetensors")
    if HEAD not in tensors:
        tensors[HEAD] = next(t for name, t in tensors.items() if name.endswith(TABLES[0])).clone()
    format = parse_format(weight_format)
    rounded = {name: _rounded(name, tensor, format) for name, tensor in tensors.items()}
    save_file(rounded, target / "model.safetensors", metadata={"format": "pt"})
    return target


def _rounded(name: str, tensor: Tensor, format: Format) -> Tensor:
    if tensor.dim() == 3 and not name.endswith("conv1d.weight"):  # stacked experts [E, in, out]
        rows = tensor.transpose(1, 2)
        flat = dequantize(quantize(rows.flatten(0, 1), format, name))
        return flat.view(rows.shape).transpose(1, 2).contiguous()
    if tensor.dim() != 2 or name.endswith((*TABLES, *UNTOUCHED)):
        return tensor.float()
    return dequantize(quantize(tensor, format, name))


def damage(file: Path, offset: int) -> None:
    """Flip a bit of a file."""
    with file.open("r+b") as opened:
        opened.seek(offset)
        (byte,) = opened.read(1)
        opened.seek(offset)
        opened.write(bytes([byte ^ 1]))


def same_tensor(a: Tensor, b: Tensor) -> bool:
    """Equal to the bit, NaN included."""
    return torch.equal(a.view(torch.uint8), b.view(torch.uint8))
