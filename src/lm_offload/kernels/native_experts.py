"""Mixtures of experts in native code: who is chosen, and all that are in one call."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch

from lm_offload.kernels import _native
from lm_offload.kernels.native_arguments import (
    DTYPE_CODES,
    indices,
    packing,
    refuse,
    rows,
    vector,
    weights,
)
from lm_offload.quant.packed import PackedWeight

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.kernels.base import Weight, Weights
    from lm_offload.kernels.expert_choice import Choice, ChoiceRule
    from lm_offload.kernels.expert_table import ExpertRoom, ExpertRows, ExpertTable, Gate

MATRICES = ("gate_proj", "up_proj", "down_proj")
BIASES = ("gate_bias", "up_bias", "down_bias")
ACTIVATIONS = ("silu", "gelu_tanh", "relu2")  # as csrc/experts.h counts them


class NativeExperts(ABC):
    """The part of `NativeKernels` that mixtures need."""

    threads: int
    _ops: _native.Operations

    @abstractmethod
    def linear(self, x: Tensor, weight: Weight, out: Tensor, bias: Tensor | None = None) -> None:
        """See `Kernels.linear`."""

    def choose_experts(
        self,
        scores: Tensor,
        rule: ChoiceRule,
        bias: Tensor | None,
        choice: Choice,
        factors: Tensor | None = None,
    ) -> None:
        """See `Kernels.choose_experts`."""
        at, stride, count, experts = rows(scores)
        chosen_at, scales_at = _chosen(choice, count, rule.used)
        ranked, scaled = _of_each(bias, experts), _of_each(factors, experts)
        groups = rule.groups, rule.groups_used, rule.summed
        if experts % rule.groups or not 0 < rule.used <= experts:
            refuse(f"scores of {rule.groups} groups, {rule.used} experts or more", scores)
        self._ops.choose_experts(
            at, stride, count, experts, rule.sharpness, rule.sigmoids, ranked, scaled, groups,
            rule.used, rule.to_one, rule.added_to_sum, rule.scale, chosen_at, scales_at,
        )  # fmt: skip

    def choose_close(self, scores: Tensor, margin: float, choice: Choice) -> None:
        """See `Kernels.choose_close`."""
        at, stride, count, experts = rows(scores)
        used = choice.experts.shape[1]
        if not 0 < used <= experts:
            refuse(f"scores of {used} experts or more", scores)
        self._ops.choose_close(
            at, stride, count, experts, margin, used, *_chosen(choice, count, used)
        )

    def weigh_rows(self, inputs: Tensor, gate: Tensor, scores: Tensor, x: Tensor) -> None:
        """See `Kernels.weigh_rows`."""
        self.linear(inputs, gate, scores)
        at, stride, count, width = rows(x)
        scores_at, scores_stride, *scored = rows(scores)
        if scored != [count, 1]:
            refuse(f"a score for each of {count} rows", scores)
        self._ops.weigh_rows(
            scores_at, scores_stride, at, stride, at, stride, count, width, self.threads
        )

    def clear(self, x: Tensor) -> None:
        """See `Kernels.clear`."""
        at, stride, count, width = rows(x)
        self._ops.clear_rows(at, stride, at, stride, at, stride, count, width, self.threads)

    def expert_table(self, experts: int, example: Weights) -> NativeTable:
        """See `Kernels.expert_table`."""
        return NativeTable(experts, example)

    def add_experts(
        self, table: ExpertTable, span: range, given: ExpertRows, gate: Gate, room: ExpertRoom
    ) -> None:
        """See `TabledExperts.add_experts`."""
        assert isinstance(table, NativeTable)
        x_at, x_stride, count, width = rows(given.x)
        out_at, out_stride, *out_shape = rows(given.out)
        if width != table.width or out_shape != [count, width]:
            refuse(f"rows of {table.width} columns, and outputs as many", given.x, given.out)
        used = given.choice.experts.shape[1]
        chosen = *_chosen(given.choice, count, used), count, used
        self._ops.add_experts(
            table.address_of(span), (span.start, span.stop), chosen, x_at, x_stride, out_at,
            out_stride, width, table.inner, table.wide, table.narrow, table.bias_code,
            table.activation(gate), gate.limit, gate.slope, gate.scales_inputs,
            _room(room.scratch, table), indices(room.used, torch.int64, 1), self.threads,
        )  # fmt: skip


class NativeTable:
    """See `ExpertTable`."""

    def __init__(self, experts: int, example: Weights) -> None:
        self.inner, self.width = example["up_proj"].shape
        self.wide, self.narrow = _matrix(example["up_proj"]), _matrix(example["down_proj"])
        self.bias_code = DTYPE_CODES[example["up_bias"].dtype] if "up_bias" in example else 0
        self.scratch_width = 2 * (self.width + self.inner) + _native.USE_FLOATS
        self._gated = "gate_proj" in example
        self._like = _kind(example)
        self._addresses = torch.zeros(experts, _native.EXPERT_ADDRESSES, dtype=torch.int64)
        self._put: dict[int, Weights] = {}

    def put(self, expert: int, found: Weights) -> None:
        """See `ExpertTable.put`."""
        if self._put.get(expert) is found:
            return
        matrices = {role: found[role] for role in MATRICES if role in found}
        if _kind(found) != self._like:
            refuse("experts that are alike", *matrices.values())
        places = [weights(matrices[role])[0] if role in matrices else 0 for role in MATRICES]
        for bias, role in zip(BIASES, MATRICES, strict=True):
            places.append(vector(found[bias], found[role].shape[0])[0] if bias in found else 0)
        self._addresses[expert] = torch.tensor(places)
        self._put[expert] = found

    def address_of(self, span: range) -> int:
        """Of the table, where all of these experts were put in it."""
        if not self._put.keys() >= {*span}:
            raise ValueError(f"Experts {span} were asked for, but not all of them were put here.")
        return self._addresses.data_ptr()

    def activation(self, gate: Gate) -> int:
        """Its number, where experts like these can have it."""
        if self._gated == (gate.activation == "relu2"):
            raise ValueError(
                f"{gate.activation} of experts {'with' if self._gated else 'without'} "
                "gates was asked for; relu2 has none, others have them."
            )
        return ACTIVATIONS.index(gate.activation)


def _matrix(weight: Weight) -> _native.ExpertMatrix:
    """What a matrix has in common with that of other experts."""
    _, stride, code, _, _ = weights(weight)
    if isinstance(weight, PackedWeight):
        bits, group, symmetric, floats, input_bits = packing(weight)
        return bits, 0, 0, group, symmetric, floats, input_bits
    return 0, code, stride, 0, False, False, 0


def _kind(found: Weights) -> tuple[object, ...]:
    """Equal for experts that may be in one table."""
    matrices = {role: found[role] for role in MATRICES if role in found}
    biases = [found[role].dtype if role in found else None for role in BIASES]
    shapes = [tuple(matrix.shape) for matrix in matrices.values()]
    return *matrices, *map(_matrix, matrices.values()), *shapes, *biases


def _of_each(weight: Tensor | None, experts: int) -> tuple[int, int]:
    """Address and dtype of a number for each expert, if there is one."""
    return (0, 0) if weight is None else vector(weight.flatten(), experts)


def _chosen(choice: Choice, count: int, used: int) -> tuple[int, int]:
    """Addresses of the experts and scales [count, used] of all rows."""
    experts, scales = choice
    places = indices(experts.view(-1), torch.int64, count * used)
    if scales.shape != experts.shape or not scales.is_contiguous():
        refuse("scales as many as experts, without gaps", scales)
    return places, rows(scales)[0]


def _room(scratch: Tensor, table: NativeTable) -> tuple[int, int]:
    """Address of the scratch memory, and for how many rows of a product it is enough."""
    at, _, most, width = rows(scratch)
    wanted = table.scratch_width
    if width != wanted or not scratch.is_contiguous() or not most:
        refuse(f"scratch of {wanted} columns without gaps", scratch)
    return at, most
