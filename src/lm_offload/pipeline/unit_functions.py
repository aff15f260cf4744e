"""The model's functions on the activations of a sweep: what each kind of unit computes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor

from lm_offload.arch.weight_spec import DOWN, GATE_UP
from lm_offload.arch.weights import Unit
from lm_offload.kernels.base import Kernels
from lm_offload.kvcache.recurrent_states import State
from lm_offload.micro_batch import MicroBatch
from lm_offload.models.attention_kinds import attention_of
from lm_offload.models.base import (
    Context,
    HalvedFunctions,
    LayeredFunctions,
    ModelFunctions,
)
from lm_offload.models.registry import load_recurrent
from lm_offload.pipeline.micro_batches import SweepInput
from lm_offload.pipeline.runner_parts import Buffers
from lm_offload.pipeline.sweep_rows import SweepRows
from lm_offload.quant.kv_blocks import Blocks
from lm_offload.storage.unit_views import Views


class UnitFunctions:
    """Weights, rows and cache are given, and the kernels where calls of them may be recorded."""

    def __init__(
        self,
        model: ModelFunctions,
        context: Context,
        sweep_rows: SweepRows,
        buffers: Buffers,
    ) -> None:
        self._model = model
        self._context = context
        self._sweep_rows = sweep_rows
        self._buffers = buffers

    def embed(self, weights: Views, rows: MicroBatch, sweep: SweepInput, kernels: Kernels) -> None:
        """Hidden states of `rows`, which are some of the sweep, the first ones first."""
        context, take = self._context.on(kernels), self._sweep_rows.take
        if rows.start == 0:
            self._sweep_rows.begin(self._rows_of_all(sweep))
        token_ids = sweep.token_ids[rows.start : rows.stop]
        wanted = self._model.embed_rows(context.config, token_ids, rows.positions)
        found = {role: take(role, index, rows.start) for role, index in wanted.items()}
        self._model.embed(context, found, self._hidden(rows), weights)
        if self._buffers.layer_inputs is not None:
            inputs = self._buffers.layer_inputs[rows.start : rows.stop].flatten(1)
            self._layered.layer_inputs(context, found, self._hidden(rows), weights, inputs)

    def _rows_of_all(self, sweep: SweepInput) -> Mapping[str, Tensor]:
        """Rows of tables by role, if there are several micro-batches to fetch them for."""
        if len(sweep.micro_batches) == 1 or not self._sweep_rows.may_fetch:
            return {}
        positions = torch.cat([rows.positions for rows in sweep.micro_batches])
        return self._model.embed_rows(self._context.config, sweep.token_ids, positions)

    def mlp(self, unit: Unit, weights: Views, rows: MicroBatch, kernels: Kernels) -> None:
        """The MLP of a layer or its second half, added to the hidden states of `rows`.

        Of the first half the inner rows are kept.
        """
        context, hidden = self._context.on(kernels), self._hidden(rows)
        if unit.kind == GATE_UP:
            self._halved.inner_rows(context, weights, hidden, self._inner(rows))
        elif unit.kind == DOWN:
            self._halved.add_inner(context, weights, self._inner(rows), hidden)
        else:
            self._whole_mlp(context, unit, weights, rows)

    def _whole_mlp(self, context: Context, unit: Unit, weights: Views, rows: MicroBatch) -> None:
        self._model.mlp(context, unit.index, weights, self._hidden(rows))
        if self._buffers.layer_inputs is not None:
            inputs = self._buffers.layer_inputs[rows.start : rows.stop, unit.index]
            self._layered.add_layer_input(context, weights, inputs, self._hidden(rows))

    def attend(
        self,
        unit: Unit,
        weights: Views,
        rows: MicroBatch,
        keys: Blocks,
        values: Blocks,
        kernels: Kernels,
    ) -> None:
        """The attention of a layer over this cache, added to the hidden states of `rows`."""
        context, hidden = self._context.on(kernels), self._hidden(rows)
        attend = attention_of(context.config, unit.index)
        attend(self._model, context, unit.index, weights, hidden, rows, keys, values)

    def recur(self, weights: Views, rows: MicroBatch, state: State, kernels: Kernels) -> None:
        """What is recurrent of a layer, added to the hidden states of `rows`."""
        context, hidden = self._context.on(kernels), self._hidden(rows)
        model = load_recurrent(context.config.model_type)
        model.recur(context, weights, hidden, rows, state)

    def head(self, unit: Unit, weights: Views, sweep: SweepInput, kernels: Kernels) -> None:
        """The final norm, or one part of the logits, of the rows of a sweep that want them."""
        context, count = self._context.on(kernels), len(sweep.logit_rows)
        normed = self._buffers.normed[:count]
        if unit.kind == "final_norm":
            rows = slice(count) if sweep.is_decode else sweep.logit_rows
            self._model.final_norm(context, weights, self._buffers.hidden[rows], normed)
        else:
            first, last = unit.weights[0].rows or (0, context.config.vocab_size)
            self._model.head(context, weights, normed, self._buffers.logits[:count, first:last])

    def _inner(self, rows: MicroBatch) -> Tensor:
        assert self._buffers.inner is not None
        return self._buffers.inner[rows.start : rows.stop]

    @property
    def _halved(self) -> HalvedFunctions:
        return cast("HalvedFunctions", self._model)

    @property
    def _layered(self) -> LayeredFunctions:
        return cast("LayeredFunctions", self._model)

    def _hidden(self, rows: MicroBatch) -> Tensor:
        return self._buffers.hidden[rows.start : rows.stop]
