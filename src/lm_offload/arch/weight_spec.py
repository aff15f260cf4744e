"""Weights as data: which tensors of the checkpoint make up which unit."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lm_offload.quant.format import Format

ROW_TABLES = ("tokens", "positions", "layer_tokens")
ROUTER = "router"  # role of the matrix that scores the experts of a layer
SHARED_GATE = "shared_gate"  # and of the one that scores an expert which every token uses
LATENT_UP = "kv_b_proj"  # and of what makes keys and values of a narrow vector, head by head
GATES = (
    "ba_proj",
    "b_proj",
    "a_proj",
    "step_proj",
)  # and of those that score a recurrent state's heads
CHOICE_BIAS = "choice_bias"  # and of what is added to scores when experts are chosen
ATTENTION_GATE = "score_proj"  # role of what scores what is attended to, where it is a matrix
XIELU = ("alpha_p", "alpha_n", "beta", "eps")  # and of the numbers of an activation
GATE_UP, DOWN = "gate_up", "down"  # kinds of units: the halves of an MLP, see halves.py
HEAD_ROW_MULTIPLE = 64  # so that every part of the head but the last suits the kernels' tiles
MLP_KINDS = ("mlp", GATE_UP, DOWN)
LAYER_KINDS = ("attention", "recurrent", *MLP_KINDS, "router")  # but for experts
MLP_ROLES = ("gate_proj", "up_proj", "gate_up_proj", "down_proj")
_NOT_MULTIPLIED = (CHOICE_BIAS, "q_norm", "k_norm")  # of which some have two dimensions


_NEVER = (ROUTER, SHARED_GATE, LATENT_UP, *GATES)  # stored in a format of the model's matrices


@dataclass(frozen=True)
class WeightSpec:
    """One tensor of the checkpoint, or some of its rows."""

    name: str  # in the checkpoint: "model.layers.0.self_attn.q_proj.weight"
    role: str  # what the model functions call it: "q_proj"
    shape: tuple[int, ...]  # of the whole tensor
    rows: tuple[int, int] | None = None  # first and one past the last row that is read
    of_expert: bool = False

    @property
    def view_shape(self) -> tuple[int, ...]:
        """Shape of what is read."""
        if self.rows is None:
            return self.shape
        return (self.rows[1] - self.rows[0], *self.shape[1:])

    @property
    def elements(self) -> int:
        """Number of elements that are read."""
        return math.prod(self.view_shape)

    @property
    def is_matrix(self) -> bool:
        """Whether it is multiplied with."""
        return len(self.shape) == 2 and self.role not in _NOT_MULTIPLIED

    def takes(self, format: Format) -> bool:
        """Whether it is stored in a format of the model's matrices.

        A router and gates are too small to gain and too important to lose; of LATENT_UP single
        rows and columns are multiplied with.
        """
        for_it = self.of_expert or not format.is_of_experts
        return self.is_matrix and self.role not in _NEVER and for_it

    @property
    def is_row_table(self) -> bool:
        """Whether single rows are gathered, so that the tensor is never loaded whole."""
        return self.role in ROW_TABLES


def norm_spec(name: str, role: str, size: int) -> WeightSpec:
    """The scale of an RMS norm."""
    return WeightSpec(f"{name}.weight", role, (size,))


def linear_specs(name: str, role: str, shape: tuple[int, int], bias: bool) -> list[WeightSpec]:
    """A matrix [out, in] and its bias; the role of the bias ends in `_bias` instead of `_proj`."""
    specs = [WeightSpec(f"{name}.weight", role, shape)]
    if bias:
        specs.append(WeightSpec(f"{name}.bias", role.removesuffix("_proj") + "_bias", shape[:1]))
    return specs


def stacked_mlp(prefix: str, hidden: int, inner: int) -> list[WeightSpec]:
    """A gated MLP whose gate and up projections are one tensor: read as two, one for each role."""
    both, roles = (2 * inner, hidden), ("gate_proj", "up_proj")
    stacked = [
        WeightSpec(f"{prefix}.input_linear.weight", role, both, (at * inner, (at + 1) * inner))
        for at, role in enumerate(roles)
    ]
    return [*stacked, WeightSpec(f"{prefix}.output_linear.weight", "down_proj", (hidden, inner))]


@dataclass(frozen=True)
class Unit:
    """The smallest piece of weights that moves and is used together."""

    kind: str  # embed, attention, recurrent, mlp, gate_up, down, router, expert, final_norm, head
    index: int  # number of the layer, or of the part of the head
    weights: tuple[WeightSpec, ...]
    expert: int = 0  # number of the expert in its layer

    @property
    def name(self) -> str:
        """`embed`, `layers.3.mlp`, `layers.3.expert.5`, `final_norm`, `head.0`."""
        if self.kind in LAYER_KINDS:
            return f"layers.{self.index}.{self.kind}"
        if self.kind == "expert":
            return f"layers.{self.index}.expert.{self.expert}"
        return f"{self.kind}.{self.index}" if self.kind == "head" else self.kind

    @property
    def tables(self) -> tuple[WeightSpec, ...]:
        """The weights of which only single rows are read."""
        return tuple(spec for spec in self.weights if spec.is_row_table)

    @property
    def loaded(self) -> tuple[WeightSpec, ...]:
        """The weights that are read whole before the unit computes."""
        return tuple(spec for spec in self.weights if not spec.is_row_table)
