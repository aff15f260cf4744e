"""The model's functions on the activations of a sweep: what each kind of unit computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from lm_offload.arch.weights import Unit
from lm_offload.kernels.base import Kernels
from lm_offload.micro_batch import MicroBatch
from lm_offload.models.base import Context, ModelFunctions
from lm_offload.models.blocks import attention
from lm_offload.pipeline.runner_parts import Buffers
from lm_offload.quant.kv_blocks import Blocks
from lm_offload.storage.unit_views import Views
from lm_offload.storage.weight_store import Rows


class UnitFunctions:
    """Weights, rows and cache are given, and the kernels where calls of them may be recorded."""

    def __init__(
        self,
        model: ModelFunctions,
        context: Context,
        tables: Mapping[str, Rows],
        buffers: Buffers,
    ) -> None:
        self._model = model
        self._context = context
        self._tables = tables
        self._buffers = buffers

    def embed(self, weights: Views, rows: MicroBatch, token_ids: Tensor, kernels: Kernels) -> None:
        """Hidden states of `rows` from their tokens [rows] int64."""
        context = replace(self._context, kernels=kernels)
        wanted = self._model.embed_rows(context.config, token_ids, rows.positions)
        found = {role: self._tables[role].gather(index) for role, index in wanted.items()}
        self._model.embed(context, found, self._hidden(rows), weights)

    def mlp(self, unit: Unit, weights: Views, rows: MicroBatch, kernels: Kernels) -> None:
        """The MLP of a layer, added to the hidden states of `rows`."""
        context = replace(self._context, kernels=kernels)
        self._model.mlp(context, unit.index, weights, self._hidden(rows))

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
        context, hidden = replace(self._context, kernels=kernels), self._hidden(rows)
        attention(self._model, context, unit.index, weights, hidden, rows, keys, values)

    def head(self, unit: Unit, weights: Views, rows: Tensor) -> None:
        """The final norm, or one part of the logits, of these rows [R] int64 of the sweep."""
        normed = self._buffers.normed[: len(rows)]
        if unit.kind == "final_norm":
            self._model.final_norm(self._context, weights, self._buffers.hidden[rows], normed)
        else:
            first, last = unit.weights[0].rows or (0, self._context.config.vocab_size)
            logits = self._buffers.logits[: len(rows), first:last]
            self._model.head(self._context, weights, normed, logits)

    def _hidden(self, rows: MicroBatch) -> Tensor:
        return self._buffers.hidden[rows.start : rows.stop]
