"""Tensors of checkpoints that stack experts, as matrices of their own."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def with_single_experts(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors, stacked experts as matrices [out, in], single numbers as vectors of one."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if "_linear.weight" in name and tensor.dim() == 3:
            found |= _granite_experts(name, tensor)
            continue
        block, dot, stack = name.rpartition(".experts.")
        if not dot or stack[0].isdigit() or "shared" in stack:
            found[name] = tensor if tensor.dim() else tensor[None]
        elif f"{block}.experts.gate_up_proj_bias" in tensors:
            found |= _gpt_oss_experts(block, stack, tensor)
        else:
            hidden_size = len(next(it for name, it in tensors.items() if "layernorm" in name))
            width = tensor.shape[2 if stack.startswith("gate_up") else 1]
            upright = tensor if width == hidden_size else tensor.transpose(1, 2)
            found |= _experts_in_halves(block, stack, upright)
    return found


def _gpt_oss_experts(block: str, stack: str, tensor: Tensor) -> dict[str, Tensor]:
    """Columns are rows, and those of gate and up take turns."""
    kind = "bias" if stack.endswith("_bias") else "weight"
    roles = _roles(stack.startswith("gate_up"))
    return {
        f"{block}.experts.{expert}.{role}_proj.{kind}": rows[turn :: len(roles)].contiguous()
        for expert, rows in enumerate(tensor if kind == "bias" else tensor.transpose(1, 2))
        for turn, role in enumerate(roles)
    }


def _granite_experts(name: str, stack: Tensor) -> dict[str, Tensor]:
    block, _, kind = name.removesuffix("_linear.weight").rpartition(".")
    return _experts_in_halves(block, "gate_up" if kind == "input" else "down", stack)


def _experts_in_halves(block: str, stack: str, tensor: Tensor) -> dict[str, Tensor]:
    """Of [E, out, in]: the rows of the gate, then those of up."""
    roles = _roles(stack.startswith("gate_up"))
    return {
        f"{block}.experts.{expert}.{role}_proj.weight": matrix.contiguous()
        for expert, matrices in enumerate(tensor)
        for role, matrix in zip(roles, matrices.chunk(len(roles)), strict=True)
    }


def _roles(both: bool) -> tuple[str, ...]:
    return ("gate", "up") if both else ("down",)
