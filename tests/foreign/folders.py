"""Toy checkpoints quantized as others do it, packed after the public definitions of the formats."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]  # which of eight neighbours the nibbles of a word hold


@dataclass(frozen=True)
class Quantized:
    """Weights are scales * (codes - zeros), by groups of columns."""

    codes: Tensor  # uint8 [N, K]
    scales: Tensor  # fp16 [N, groups]
    zeros: Tensor  # int [N, groups]
    group_of: Tensor  # [K]

    @property
    def values(self) -> Tensor:
        zeros, scales = self.zeros[:, self.group_of], self.scales.float()[:, self.group_of]
        return (self.codes.float() - zeros) * scales


Parts = dict[str, Tensor]
Packer = Callable[[Tensor], tuple[Parts, Tensor]]  # of a matrix: its tensors, what they stand for


def write_folder(source: Path, folder: Path, section: Mapping[str, Any], packer: Packer) -> Path:
    """The checkpoint `source` with matrices of layers packed, and the oracle beside it."""
    config = json.loads((source / "config.json").read_text())
    stored: Parts = {}
    held: Parts = {}
    for name, tensor in load_file(source / "model.safetensors").items():
        if "proj" not in name or not name.endswith(".weight"):
            stored[name] = held[name] = tensor.half()
            continue
        parts, held[name] = packer(tensor.float())
        stored |= {name.removesuffix("weight") + part: value for part, value in parts.items()}
    (folder / "oracle").mkdir(parents=True)
    quantized = config | {"dtype": "float16", "quantization_config": dict(section)}
    (folder / "config.json").write_text(json.dumps(quantized))
    (folder / "oracle" / "config.json").write_text(json.dumps(config))
    save_file({k: v.contiguous() for k, v in stored.items()}, folder / "model.safetensors")
    held = {name: tensor.float().contiguous() for name, tensor in held.items()}
    save_file(held, folder / "oracle" / "model.safetensors", metadata={"format": "pt"})
    return folder


def round_groups(
    weight: Tensor, bits: int, group: int, symmetric: bool, shuffled: bool = False
) -> Quantized:
    """Round to nearest, with groups of columns in a random order where it is `shuffled`."""
    rows, columns = weight.shape
    order = torch.randperm(columns) if shuffled else torch.arange(columns)
    groups = weight[:, order].reshape(rows, -1, group)
    top = (1 << bits) - 1
    low, high = groups.amin(2).clamp(max=0), groups.amax(2).clamp(min=0)
    middle = 1 << (bits - 1)
    span = 2 * torch.maximum(-low, high) * (top + 1) / top if symmetric else high - low
    scales = (span / top).half()
    zeros = torch.full_like(low, middle) if symmetric else (-low / scales.float()).round()
    codes = (groups / scales.float().unsqueeze(2)).round() + zeros.unsqueeze(2)
    found = torch.empty(rows, columns, dtype=torch.uint8)
    found[:, order] = codes.clamp(0, top).to(torch.uint8).reshape(rows, columns)
    group_of = torch.empty(columns, dtype=torch.long)
    group_of[order] = torch.arange(columns) // group
    return Quantized(found, scales, zeros.int(), group_of)


def pack_words(codes: Tensor, bits: int) -> Tensor:
    """[.., n] codes as int32 words of neighbours, the first in the lowest bits."""
    shifts = torch.arange(0, 32, bits)
    words = (codes.long().unflatten(-1, (-1, 32 // bits)) << shifts).sum(-1)
    return torch.where(words >= 1 << 31, words - (1 << 32), words).int()


def gptq(bits: int, group: int, symmetric: bool, shuffled: bool = False, shift: int = 1) -> Packer:
    def packer(weight: Tensor) -> tuple[Parts, Tensor]:
        size = group if group > 0 else weight.shape[1]
        q = round_groups(weight, bits, size, symmetric, shuffled)
        zeros = (q.zeros.T - shift) & ((1 << bits) - 1)
        return {
            "qweight": pack_words(q.codes, bits).T,
            "qzeros": pack_words(zeros, bits),
            "scales": q.scales.T,
            "g_idx": q.group_of.int(),
        }, q.values

    return packer


def awq(group: int) -> Packer:
    def packer(weight: Tensor) -> tuple[Parts, Tensor]:
        q = round_groups(weight, 4, group, symmetric=False)
        return {
            "qweight": pack_words(_awq_ordered(q.codes.T), 4),
            "qzeros": pack_words(_awq_ordered(q.zeros.T), 4),
            "scales": q.scales.T,
        }, q.values

    return packer


def _awq_ordered(codes: Tensor) -> Tensor:
    return codes.unflatten(-1, (-1, 8))[..., AWQ_ORDER].flatten(-2)


def compressed(
    bits: int, group: int, symmetric: bool, packed: bool = True, shuffled: bool = False
) -> Packer:
    def packer(weight: Tensor) -> tuple[Parts, Tensor]:
        size = group if group > 0 else weight.shape[1]
        q = round_groups(weight, bits, size, symmetric, shuffled)
        signed = (q.codes.short() - (1 << (bits - 1))).to(torch.int8)
        parts = {"weight_scale": q.scales}
        if packed:
            parts["weight_packed"] = pack_words(q.codes, bits)
            parts["weight_shape"] = torch.tensor(weight.shape)
            zeros = pack_words(q.zeros.T, bits).T
        else:
            parts["weight"] = signed
            zeros = (q.zeros - 128).to(torch.int8)
        parts |= {} if symmetric else {"weight_zero_point": zeros}
        parts |= {"weight_g_idx": q.group_of.int()} if shuffled else {}
        return parts, q.values

    return packer


def float8(
    rows: int, columns: int, scale_name: str, shape: tuple[int, ...] | None = None
) -> Packer:
    """Blocks of `rows` x `columns`; 0 is all of them."""

    def packer(weight: Tensor) -> tuple[Parts, Tensor]:
        count = (rows or weight.shape[0], columns or weight.shape[1])
        row_block = torch.arange(weight.shape[0]) // count[0]
        column_block = torch.arange(weight.shape[1]) // count[1]
        scales = torch.zeros(int(row_block[-1]) + 1, int(column_block[-1]) + 1)
        for i, j in torch.cartesian_prod(*map(torch.arange, scales.shape)):
            scales[i, j] = weight[row_block == i][:, column_block == j].abs().max() / 448
        spread = scales[row_block][:, column_block]
        codes = (weight / spread).to(torch.float8_e4m3fn)
        stored = scales if shape is None else scales.reshape(shape)
        return {"weight": codes, scale_name: stored}, codes.float() * spread

    return packer


def gptq_section(bits: int, group: int, **fields: Any) -> dict[str, Any]:
    return {"quant_method": "gptq", "bits": bits, "group_size": group, "sym": True} | fields


def awq_section(group: int, **fields: Any) -> dict[str, Any]:
    return {
        "quant_method": "awq",
        "bits": 4,
        "group_size": group,
        "zero_point": True,
        "version": "gemm",
    } | fields


def compressed_section(format: str, *weights: Mapping[str, Any]) -> dict[str, Any]:
    groups = {f"group_{i}": {"targets": ["Linear"], "weights": w} for i, w in enumerate(weights)}
    return {"quant_method": "compressed-tensors", "format": format, "config_groups": groups}
