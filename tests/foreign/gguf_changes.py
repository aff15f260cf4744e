"""Tensors that llama.cpp's converter lays out in another way, and what they stand for."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

_NAME = re.compile(r"model\.layers\.(\d+)\.(linear_attn|mamba|shared_mlp)\.(.+)")
_SUFFIXES = {
    "A_log": "ssm_a",
    "D": "ssm_d",
    "dt_bias": "ssm_dt.bias",
    "conv1d.weight": "ssm_conv1d.weight",
    "conv1d.bias": "ssm_conv1d.bias",
    "norm.weight": "ssm_norm.weight",
    "in_proj.weight": "ssm_in.weight",
    "out_proj.weight": "ssm_out.weight",
    "in_proj_qkv.weight": "attn_qkv.weight",
    "in_proj_z.weight": "attn_gate.weight",
    "in_proj_a.weight": "ssm_alpha.weight",
    "in_proj_b.weight": "ssm_beta.weight",
    "in_proj_ba.weight": "ssm_ba.weight",
}


class Change(NamedTuple):
    """What one tensor becomes: names of GGUF, the tensors, and what these stand for."""

    names: list[str]
    forward: Callable[[Tensor], list[Tensor]]
    back: Callable[[list[Tensor]], Tensor]


def change_of(name: str, shape: torch.Size, config: Mapping[str, Any]) -> Change | None:
    """None for a tensor that is none of these."""
    if name.endswith(".kv_b_proj.weight"):
        return _in_halves(name, config)
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    block, part = f"blk.{found[1]}", found[3]
    if part == "in_proj_qkvz.weight":
        names, order = [f"{block}.attn_qkv.weight", f"{block}.attn_gate.weight"], _split(config)
        sizes = [_key_size(config) * 2 + _value_size(config), _value_size(config)]
        return _reordered(names, order, shape, lambda rows: list(rows.split(sizes)))
    if part == "input_linear.weight":
        suffix = "_shexp" if config["num_local_experts"] else ""
        names = [f"{block}.ffn_{role}{suffix}.weight" for role in ("gate", "up")]
        return _reordered(names, None, shape, lambda rows: list(rows.chunk(2)))
    if part == "output_linear.weight":
        suffix = "_shexp" if config["num_local_experts"] else ""
        return _reordered([f"{block}.ffn_down{suffix}.weight"], None, shape, lambda rows: [rows])
    return _single(f"{block}.{_SUFFIXES[part]}", part, shape, config)


def _in_halves(name: str, config: Mapping[str, Any]) -> Change:
    """What makes keys, head by head and with columns for rows, and what makes values."""
    sizes = [config["qk_nope_head_dim"], config["v_head_dim"]]
    block = f"blk.{name.split('.')[2]}"

    def forward(tensor: Tensor) -> list[Tensor]:
        heads = tensor.view(-1, sum(sizes), tensor.shape[1])
        keys, values = heads.split(sizes, dim=1)
        return [keys.transpose(1, 2).contiguous(), values.contiguous()]

    def back(parts: list[Tensor]) -> Tensor:
        return torch.cat([parts[0].transpose(1, 2), parts[1]], dim=1).flatten(0, 1)

    return Change([f"{block}.attn_k_b.weight", f"{block}.attn_v_b.weight"], forward, back)


def _single(name: str, part: str, shape: torch.Size, config: Mapping[str, Any]) -> Change:
    order = _order(part, config) if config["model_type"].startswith("qwen3_5") else None
    if part == "out_proj.weight" and order is not None:
        inverse = order.argsort()
        return Change([name], lambda t: [t[:, order].contiguous()], lambda ts: ts[0][:, inverse])
    if part == "A_log":
        plain = _reordered([name], order, shape, lambda rows: [_column(rows, config)])
        return Change(
            [name], lambda t: plain.forward(-t.exp()), lambda ts: plain.back([(-ts[0]).log()])
        )
    if part in ("D", "norm.weight"):
        groups = config.get("mamba_n_groups", 1)
        laid = (-1, 1) if part == "D" else (groups, shape[0] // groups)
        return _reordered([name], None, shape, lambda rows: [rows.reshape(laid).squeeze(0)])
    return _reordered(
        [name], order, shape, lambda rows: [rows.flatten(1) if rows.dim() == 3 else rows]
    )


def _column(rows: Tensor, config: Mapping[str, Any]) -> Tensor:
    return rows.view(-1, 1) if config["model_type"] == "granitemoehybrid" else rows


def _reordered(
    names: list[str],
    order: Tensor | None,
    shape: torch.Size,
    cut: Callable[[Tensor], list[Tensor]],
) -> Change:
    """Rows in the order of GGUF, cut into tensors."""
    order = torch.arange(shape[0]) if order is None else order
    return Change(
        names,
        lambda tensor: [part.contiguous() for part in cut(tensor[order])],
        lambda parts: torch.cat([part.reshape(-1, *shape[1:]) for part in parts])[order.argsort()],
    )


def _order(part: str, config: Mapping[str, Any]) -> Tensor | None:
    """Heads of values by turns instead of by their key head."""
    if part in ("norm.weight", "D"):
        return None
    is_single = part in ("A_log", "dt_bias", "in_proj_a.weight", "in_proj_b.weight")
    heads, keys = config["linear_num_value_heads"], config["linear_num_key_heads"]
    size = 1 if is_single else config["linear_value_head_dim"]
    turns = torch.arange(heads * size).view(keys, heads // keys, size).transpose(0, 1).flatten()
    if part not in ("in_proj_qkv.weight", "conv1d.weight"):
        return turns
    first = 2 * _key_size(config)
    return torch.cat([torch.arange(first), first + turns])


def _split(config: Mapping[str, Any]) -> Tensor:
    """From q, k, v and gate of each key head to all q, all k, all v, all gates."""
    keys, key = config["linear_num_key_heads"], config["linear_key_head_dim"]
    values = _value_size(config) // keys
    rows = torch.arange(2 * keys * key + 2 * keys * values).view(keys, -1)
    return torch.cat([part.flatten() for part in rows.split([key, key, values, values], dim=1)])


def _key_size(config: Mapping[str, Any]) -> int:
    return config["linear_num_key_heads"] * config["linear_key_head_dim"]


def _value_size(config: Mapping[str, Any]) -> int:
    return config["linear_num_value_heads"] * config["linear_value_head_dim"]
