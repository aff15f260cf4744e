"""Attention by both: of rows with keys and values on the device there, of the others on the CPU.

::

    rows          | on the device | on the CPU                |
    micro-batches |     0: both, or the device's |  1: CPU's  |     cut by schedule/turns.py

The device attends to its own when it has projected a micro-batch, and sends the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from lm_offload.device_plan import TurnCosts
from lm_offload.kvcache.cache import KVCache, numbered_blocks
from lm_offload.micro_batch import MicroBatch
from lm_offload.models.base import Weights
from lm_offload.models.blocks import attend, rotated_qkv
from lm_offload.pipeline.host_attention import AttentionParts, HostAttention
from lm_offload.pipeline.micro_batches import (
    SweepInput,
    build_sweep_input,
    divided,
)
from lm_offload.schedule.task import Task
from lm_offload.schedule.turns import Seen, first_turn_rows
from lm_offload.sequence import Batch, Chunk


class _Cut(NamedTuple):
    """What of a micro-batch who attends to; one of both at least."""

    own: MicroBatch | None
    sent: MicroBatch | None


class SplitAttention(HostAttention):
    """See `HostAttention`; block numbers of `cache` follow those of the device's `own` cache."""

    def __init__(self, parts: AttentionParts, own: KVCache, costs: TurnCosts) -> None:
        super().__init__(parts)
        self._own = own
        self._costs = costs
        self._own_rows = 0
        self._cut: Sequence[_Cut] = ()

    def input_of(self, batch: Batch, micro_batch_tokens: int) -> SweepInput:
        """Cut by the load rule, anew for each sweep: contexts grow, sequences come and go."""
        own = [chunk for chunk in batch.chunks if self._is_own(chunk)]
        others = batch.chunks[len(own) :]
        self._own_rows = sum(chunk.stop - chunk.start for chunk in own)
        first = first_turn_rows(self._costs, _sum_of(own), [_sum_of([it]) for it in others])
        config, most = self._parts.context.config, micro_batch_tokens
        return build_sweep_input(config, batch, most, self._blocks_of, turn_rows=first)

    def begin(self, micro_batches: Sequence[MicroBatch]) -> None:
        """These are the rows of the next sweep."""
        super().begin(micro_batches)
        self._cut = [self._cut_of(rows) for rows in micro_batches]

    def alone(self) -> int:
        """Leading micro-batches that the CPU has no part in."""
        return sum(cut.sent is None for cut in self._cut)

    def compute(
        self, task: Task, layer: int, weights: Weights, hidden: Tensor, rows: MicroBatch
    ) -> None:
        """The device's half that `task` names, on hidden[T, H]."""
        model, context = self._parts.model, self._parts.context
        own, sent = self._cut[task.id.micro_batch]
        if task.id.kind != "project":
            attended = self._attended(own, sent)
            model.add_attended(context, weights, attended, hidden)
            return
        made = rotated_qkv(model, context, layer, weights, hidden, rows)
        if own is not None:
            self._attend_own(layer, [it[: own.num_tokens] for it in made], own)
        if sent is not None:
            for source, place in zip(made, self._exchange.device_qkv(sent), strict=True):
                place.copy_(source[-sent.num_tokens :])

    def _attend_own(self, layer: int, made: Sequence[Tensor], rows: MicroBatch) -> None:
        queries, keys, values = made
        cache, context = self._own, self._parts.context
        places = cache.keys[layer], cache.values[layer], self._exchange.device_qkv(rows)[0]
        attend(context.config, context.kernels, layer, (queries, keys, values), rows, *places)

    def _attended(self, *parts: MicroBatch | None) -> Tensor:
        """What both made, side by side: [T, query_size]."""
        made = [self._exchange.device_qkv(part)[0].flatten(1) for part in parts if part]
        if len(made) == 1:
            return made[0]
        rows, width = sum(map(len, made)), made[0].shape[1]
        return torch.cat(made, out=self._parts.context.workspace.take(rows, width))

    def _sent(self, task: Task) -> MicroBatch:
        sent = self._cut[task.id.micro_batch].sent
        assert sent is not None
        return sent

    def _cut_of(self, rows: MicroBatch) -> _Cut:
        count = min(max(self._own_rows - rows.start, 0), rows.num_tokens)
        own, sent = divided(rows, count)
        if own is not None:
            device = self._exchange.on_device.device
            own = replace(own, rotary=()).on(device, device)
        return _Cut(own, sent)

    def _is_own(self, chunk: Chunk) -> bool:
        return chunk.sequence.blocks[0] < self._own.num_blocks

    def _blocks_of(self, piece: Chunk) -> Sequence[int]:
        """Where they lie in the cache of their own."""
        first = 0 if self._is_own(piece) else self._own.num_blocks
        return [number - first for number in numbered_blocks(piece)]


def _sum_of(chunks: Iterable[Chunk]) -> Seen:
    """Rows of chunks, and the tokens up to each of them."""
    spans = [(chunk.start, chunk.stop) for chunk in chunks]
    tokens = sum((stop - start) * (start + stop + 1) / 2 for start, stop in spans)
    return Seen(sum(stop - start for start, stop in spans), tokens)
