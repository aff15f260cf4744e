"""Experts on the activations of a sweep: who chose which of them, and what that adds.

::

    router     | rows of micro-batch 0 | micro-batch 1 | ..   inputs and choices of all rows
    expert 0   | its rows of the whole sweep |                in few calls, as the workspace allows
    expert 1   | its rows |
    mlp        | rows of micro-batch 0 | micro-batch 1 | ..   where their sum is added in the end
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import cast

import torch
from torch import Tensor

from lm_offload.arch.weights import Unit
from lm_offload.micro_batch import MicroBatch
from lm_offload.models.base import Context, MixtureFunctions, SummedFunctions
from lm_offload.models.experts import Choice, ExpertRows
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
    ) -> None:
        """`sums` [sweep_tokens, H] f32 of what experts say, where they do not add it at once."""
        self._model = model
        self._context = context
        self._hidden = hidden
        self._inputs = inputs
        self._most_rows = most_rows  # of one call
        self._sums = sums
        self._choices: list[Choice] = []
        self._rows: Mapping[int, ExpertRows] | None = None

    def begin(self) -> None:
        """Of a new sweep, which may have no rows."""
        self._choices.clear()
        self._rows = None

    def takes_rows(self, unit: Unit) -> bool:
        """Whether it is a router, or the step of a layer after its experts."""
        last = unit.kind == "mlp" and self._context.config.sums_experts(unit.index)
        return unit.kind == "router" or last

    def compute_rows(self, unit: Unit, weights: Views, rows: MicroBatch) -> None:
        """One of these, on some rows."""
        if unit.kind == "router":
            self.route(weights, rows)
        else:
            self.add_sums(weights, rows)

    def route(self, weights: Views, rows: MicroBatch) -> None:
        """Ask the router of a layer for the experts of some rows, the first ones first."""
        if rows.start == 0:
            self.begin()
        span = slice(rows.start, rows.stop)
        hidden, inputs = self._hidden[span], self._inputs[span]
        if self._sums is not None:
            self._sums[span] = 0.0
        self._choices.append(self._model.route(self._context, weights, hidden, inputs))

    def add_sums(self, weights: Views, rows: MicroBatch) -> None:
        """The step of a layer after its experts."""
        assert self._sums is not None
        span, model = slice(rows.start, rows.stop), cast("SummedFunctions", self._model)
        inputs, sums = self._inputs[span], self._sums[span]
        model.add_sums(self._context, weights, inputs, sums, self._hidden[span])

    @property
    def chosen(self) -> Mapping[int, ExpertRows]:
        """The experts of the layer that any row uses, in order, with their rows."""
        if self._rows is None:
            count = self._context.config.num_experts
            self._rows = rows_by_expert(self._choices, count) if self._choices else {}
        return self._rows

    def compute(self, unit: Unit, weights: Views) -> None:
        """One expert on all rows that use it; nothing where there are none."""
        found = self.chosen.get(unit.expert)
        if found is None:
            return
        for first in range(0, len(found.rows), self._most_rows):
            self._context.workspace.reset()
            span = slice(first, first + self._most_rows)
            part = ExpertRows(found.rows[span], found.scales[span])
            target = self._hidden if self._sums is None else self._sums
            self._model.add_expert(self._context, weights, part, self._inputs, target)


def rows_by_expert(choices: Sequence[Choice], num_experts: int) -> dict[int, ExpertRows]:
    """The rows that use each expert, in order, if there are any."""
    experts = torch.cat([choice.experts for choice in choices])
    scales = torch.cat([choice.scales for choice in choices]).flatten()
    order = experts.flatten().argsort(stable=True)
    rows, scales = order // experts.shape[1], scales[order]
    counts: list[int] = torch.bincount(experts.flatten(), minlength=num_experts).tolist()
    bounds = pairwise(accumulate(counts, initial=0))
    return {
        expert: ExpertRows(rows[start:stop], scales[start:stop])
        for expert, (start, stop) in enumerate(bounds)
        if start < stop
    }
