"""The experts of a layer where they lie, for kernels that compute those which rows chose.

::

    chosen   | 1 6 | 1 3 | ..       of each row, known to the kernels alone
    table    0: gate up down   1: gate up down   ..       addresses

So a layer's experts are one call, which decode repeats without asking Python what was chosen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.kernels.base import Weights
    from lm_offload.kernels.expert_choice import Choice


class Gate(NamedTuple):
    """How gates pass what they are multiplied with: see `models/gpt_oss.py` of limit and slope."""

    activation: str  # silu, gelu_tanh, or relu2 of experts without gates
    limit: float
    slope: float
    scales_inputs: bool = False  # what an expert reads is scaled, not what it adds


class ExpertRows(NamedTuple):
    """What experts read and where they add, of all T rows of a sweep."""

    choice: Choice
    x: Tensor  # [T, H]
    out: Tensor  # [T, H]


class ExpertRoom(NamedTuple):
    """What a call needs beside its rows."""

    scratch: Tensor  # [most rows of a product, `scratch_width`]
    used: Tensor  # [1] int64: grows by the number of experts that rows use


class ExpertTable(Protocol):
    """See `Kernels.expert_table`."""

    @property
    def width(self) -> int:
        """H, columns of what its experts read."""

    @property
    def scratch_width(self) -> int:
        """Columns of the scratch memory that a call needs."""

    def put(self, expert: int, weights: Weights) -> None:
        """Its weights lie there from now on; raises ValueError if they are not like the others."""


class TabledExperts(Protocol):
    """What kernels that make tables offer beside the others, as do their recordings."""

    def add_experts(
        self, table: ExpertTable, span: range, rows: ExpertRows, gate: Gate, room: ExpertRoom
    ) -> None:
        """out[row] += what experts of `span` make of x[row], where rows chose them, in order."""
