"""Toy checkpoints of gpt-oss with experts in MXFP4, as it was published."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

SECTION = {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn"]}
_SIZES = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])


def write_mxfp4(source: Path, folder: Path, others: str = "bfloat16") -> Path:
    """The checkpoint `source` with rounded experts, all else in the dtype `others`; and its oracle.

    The oracle has the same values in float32.
    """
    config = json.loads((source / "config.json").read_text())
    stored: dict[str, Tensor] = {}
    held: dict[str, Tensor] = {}
    for name, tensor in load_file(source / "model.safetensors").items():
        if tensor.dim() != 3:
            stored[name] = tensor.to(getattr(torch, others))
            held[name] = stored[name].float()
            continue
        blocks, scales = _rounded(tensor.transpose(1, 2))
        stored |= {f"{name}_blocks": blocks, f"{name}_scales": scales}
        held[name] = convert_moe_packed_tensors(blocks, scales, dtype=torch.float32).contiguous()
    (folder / "oracle").mkdir(parents=True)
    published = config | {"dtype": others}
    (folder / "config.json").write_text(json.dumps(published | {"quantization_config": SECTION}))
    (folder / "oracle" / "config.json").write_text(json.dumps(config))
    save_file(stored, folder / "model.safetensors")
    save_file(held, folder / "oracle" / "model.safetensors", metadata={"format": "pt"})
    return folder


def _rounded(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Blocks uint8 [E, N, K / 32, 16] and scales uint8 [E, N, K / 32] of rows [E, N, K]."""
    groups = rows.unflatten(2, (-1, 32))
    powers = (groups.abs().amax(3) / 6).log2().ceil()
    sizes = groups.abs() / (2.0**powers).unsqueeze(3)
    codes = (sizes.unsqueeze(4) - _SIZES).abs().argmin(4) + 8 * (groups < 0)
    pairs = codes.to(torch.uint8).unflatten(3, (16, 2))
    return pairs[..., 0] | pairs[..., 1] << 4, (powers + 127).to(torch.uint8)
