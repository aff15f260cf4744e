"""Prompts attended to on the device, where their keys and values are made, and stored on the host.

A sweep is such a one if all tokens that it sees are computed in it: then nothing of the cache in
host memory is needed. One layer of a cache of its own, on the device and in the same format, serves
all layers, one after the other. In all other sweeps the CPU attends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

from torch import Tensor

from lm_offload.kvcache.cache import KVCache, blocks_for
from lm_offload.micro_batch import MicroBatch
from lm_offload.models.base import Weights
from lm_offload.models.blocks import attend, rotated_qkv
from lm_offload.pipeline.host_attention import AttentionParts, HostAttention
from lm_offload.pipeline.micro_batches import SweepInput, build_sweep_input
from lm_offload.schedule.task import Task
from lm_offload.sequence import Batch, Chunk

LAYER = 0  # of the cache on the device


class PromptAttention(HostAttention):
    """See `HostAttention`; `prompts` has one layer on the device."""

    def __init__(self, parts: AttentionParts, prompts: KVCache) -> None:
        super().__init__(parts)
        self._prompts = prompts
        self._here: Sequence[MicroBatch] = ()  # by blocks of the cache on the device

    def input_of(self, batch: Batch, micro_batch_tokens: int) -> SweepInput:
        """The rows of a sweep; of prompts alone in no more micro-batches than others have."""
        self._here = self._rows_here(batch, micro_batch_tokens)
        if not self._here:
            return super().input_of(batch, micro_batch_tokens)
        config, blocks_of = self._parts.context.config, self._parts.cache.blocks_of
        return build_sweep_input(config, batch, micro_batch_tokens, blocks_of)

    def writes_back(self) -> bool:
        """Whether the CPU only stores what the device has attended to in this sweep."""
        return bool(self._here)

    def copy_of(self, task: Task) -> tuple[Tensor, Tensor]:
        """Source and target of a `send_qkv`, which is of keys and values alone, or as before."""
        if not self._here:
            return super().copy_of(task)
        return self._exchange.keys_and_values_down(self._sent(task))

    def compute(
        self, task: Task, layer: int, weights: Weights, hidden: Tensor, rows: MicroBatch
    ) -> None:
        """All of a unit with attention, on hidden[T, H], or the half that `task` names."""
        if not self._here:
            super().compute(task, layer, weights, hidden, rows)
            return
        context, own = self._parts.context, self._here[task.id.micro_batch]
        made = rotated_qkv(self._parts.model, context, layer, weights, hidden, rows)
        places = self._exchange.device_qkv(rows)
        for source, place in zip(made[1:], places[1:], strict=True):
            place.copy_(source)
        keys, values = self._prompts.keys[LAYER], self._prompts.values[LAYER]
        attend(context.config, context.kernels, layer, made, own, keys, values, places[0])
        self._parts.model.add_attended(context, weights, places[0].flatten(1), hidden)

    def attend(self, task: Task, layer: int) -> None:
        """The CPU's part: store what was sent, and attend where the device has not."""
        if not self._here:
            super().attend(task, layer)
            return
        rows = self._sent(task)
        _, made_keys, made_values = self._exchange.host_qkv(rows)
        keys, values = self._parts.cache.keys[layer], self._parts.cache.values[layer]
        self._parts.kernels.store_kv(made_keys, made_values, keys, values, rows.slots)

    def _rows_here(self, batch: Batch, micro_batch_tokens: int) -> Sequence[MicroBatch]:
        """The same rows by blocks on the device; none where not all rows are of whole prompts."""
        counts = [blocks_for(chunk.stop) for chunk in batch.chunks]
        if any(chunk.start for chunk in batch.chunks) or sum(counts) > self._prompts.num_blocks:
            return ()
        firsts = [stop - count for stop, count in zip(accumulate(counts), counts, strict=True)]
        sequences = (id(chunk.sequence) for chunk in batch.chunks)
        first_of = dict(zip(sequences, firsts, strict=True))

        def blocks_of(piece: Chunk) -> Sequence[int]:
            first = first_of[id(piece.sequence)]
            return range(first, first + blocks_for(piece.stop))

        config, device = self._parts.context.config, self._exchange.on_device.device
        found = build_sweep_input(config, batch, micro_batch_tokens, blocks_of)
        plain = (replace(rows, rotary=()) for rows in found.micro_batches)
        return [rows.on(device, device) for rows in plain]
