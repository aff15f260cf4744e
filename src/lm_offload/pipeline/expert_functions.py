"""Experts on the activations of a sweep: who chose which of them, and what that adds.

::

    router     | rows of micro-batch 0 | micro-batch 1 | ..   inputs and choices of all rows
    expert 0   | its rows of the whole sweep |                in few calls, as the workspace allows
    expert 1   | its rows |
    mlp        | rows of micro-batch 0 | micro-batch 1 | ..   where their sum is added in the end

Where kernels have a table of a layer's experts, neighbours that are computed together are one call,
and nobody else need know who was chosen (`kernels/expert_table.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import cast

import torch
from torch import Tensor

from lm_offload.arch.weights import Unit
from lm_offload.kernels import expert_table
from lm_offload.kernels.base import Kernels
from lm_offload.kernels.expert_choice import Choice
from lm_offload.kernels.expert_table import ExpertRoom, ExpertTable, Gate, TabledExperts
from lm_offload.micro_batch import MicroBatch
from lm_offload.models.base import Context, MixtureFunctions, SummedFunctions
from lm_offload.models.experts import ExpertRows
from lm_offload.storage.unit_views import Views


class ExpertFunctions:
    """Of one layer after the other; hidden and inputs [sweep_tokens, H] f32."""

    def __init__(
        self,
        model: MixtureFunctions,
        context: Context,
        hidden: Tensor,
        inputs: Tensor,
        most_rows: int,
        sums: Tensor | None = None,
        tables: Mapping[int, ExpertTable] | None = None,
    ) -> None:
        """`sums` [sweep_tokens, H] f32 of what experts say, where they do not add it at once.

        `tables` of some layers are filled here, as experts are computed.
        """
        self._model = model
        self._context = context
        self._hidden = hidden
        self._inputs = inputs
        self._most_rows = most_rows  # of one call
        self._sums = sums
        self._tables = tables or {}
        shape = len(hidden), context.config.experts_per_token
        self._choice = Choice(torch.zeros(shape, dtype=torch.int64), torch.zeros(shape))
        self._used = torch.zeros(1, dtype=torch.int64)
        self._num_rows = 0  # of the sweep
        self._rows: Mapping[int, ExpertRows] | None = None

    def begin(self, num_rows: int) -> None:
        """Of a new sweep, which may have no rows."""
        self._num_rows = num_rows
        self._rows = {}

    def has_table(self, layer: int) -> bool:
        """Whether its experts are found by the kernels."""
        return layer in self._tables

    def takes_rows(self, unit: Unit) -> bool:
        """Whether it is a router, or the step of a layer after its experts."""
        last = unit.kind == "mlp" and self._context.config.sums_experts(unit.index)
        return unit.kind == "router" or last

    def compute_rows(self, unit: Unit, weights: Views, rows: MicroBatch, kernels: Kernels) -> None:
        """One of these, on some rows."""
        if unit.kind == "router":
            self.route(weights, rows, kernels)
        else:
            self.add_sums(weights, rows, kernels)

    def route(self, weights: Views, rows: MicroBatch, kernels: Kernels) -> None:
        """Ask the router of a layer for the experts of some rows."""
        span, context = slice(rows.start, rows.stop), self._context.on(kernels)
        hidden, inputs = self._hidden[span], self._inputs[span]
        if self._sums is not None:
            kernels.clear(self._sums[span])
        choice = Choice(*(each[span] for each in self._choice))
        self._model.route(context, weights, hidden, inputs, choice)
        self._rows = None

    def add_sums(self, weights: Views, rows: MicroBatch, kernels: Kernels) -> None:
        """The step of a layer after its experts."""
        assert self._sums is not None
        span, model = slice(rows.start, rows.stop), cast("SummedFunctions", self._model)
        inputs, sums = self._inputs[span], self._sums[span]
        model.add_sums(self._context.on(kernels), weights, inputs, sums, self._hidden[span])

    def chosen(self) -> list[int]:
        """The experts that any row uses, in order, of the layer whose router was computed last."""
        self._rows = None
        experts = self._choice.experts[: self._num_rows].flatten()
        return sorted({*experts.tolist()})

    def take_used(self) -> int:
        """How many experts were computed since the last call."""
        used = int(self._used)
        self._used.zero_()
        return used

    def compute(self, experts: Sequence[tuple[Unit, Views]], kernels: Kernels) -> None:
        """Neighbours of one layer on all rows that use them; nothing where there are none."""
        table = self._tables.get(experts[0][0].index)
        if table is None:
            for unit, weights in experts:
                self._compute_one(unit, weights)
        elif self._num_rows:
            for unit, weights in experts:
                table.put(unit.expert, weights)
            span = range(experts[0][0].expert, experts[-1][0].expert + 1)
            self._compute_span(table, span, kernels)

    def _compute_span(self, table: ExpertTable, span: range, kernels: Kernels) -> None:
        config, count = self._context.config, self._num_rows
        choice = Choice(*(each[:count] for each in self._choice))
        read, added = self._inputs[:count, : table.width], self._target[:count, : table.width]
        rows = expert_table.ExpertRows(choice, read, added)
        gate = Gate(config.activation, config.gate_limit, config.gate_slope, config.scales_inputs)
        self._context.workspace.reset()
        scratch = self._context.workspace.take(min(count, self._most_rows), table.scratch_width)
        given = table, span, rows, gate, ExpertRoom(scratch, self._used)
        cast("TabledExperts", kernels).add_experts(*given)

    def _compute_one(self, unit: Unit, weights: Views) -> None:
        """One expert, asked for by each of its operations."""
        found = self._rows_of_experts.get(unit.expert)
        if found is None:
            return
        self._used += 1
        for first in range(0, len(found.rows), self._most_rows):
            self._context.workspace.reset()
            span = slice(first, first + self._most_rows)
            part = ExpertRows(found.rows[span], found.scales[span])
            self._model.add_expert(self._context, weights, part, self._inputs, self._target)

    @property
    def _target(self) -> Tensor:
        return self._hidden if self._sums is None else self._sums

    @property
    def _rows_of_experts(self) -> Mapping[int, ExpertRows]:
        """The experts of the layer that any row uses, in order, with their rows."""
        if self._rows is None:
            choice = Choice(*(each[: self._num_rows] for each in self._choice))
            self._rows = rows_by_expert(choice, self._context.config.num_experts)
        return self._rows


def rows_by_expert(choice: Choice, num_experts: int) -> dict[int, ExpertRows]:
    """The rows that use each expert, in order, if there are any."""
    experts, scales = choice.experts, choice.scales.flatten()
    order = experts.flatten().argsort(stable=True)
    rows, scales = order // experts.shape[1], scales[order]
    counts: list[int] = torch.bincount(experts.flatten(), minlength=num_experts).tolist()
    bounds = pairwise(accumulate(counts, initial=0))
    return {
        expert: ExpertRows(rows[start:stop], scales[start:stop])
        for expert, (start, stop) in enumerate(bounds)
        if start < stop
    }
