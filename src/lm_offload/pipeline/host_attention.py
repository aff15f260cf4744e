"""Attention on the CPU over a KV cache in host memory, between two halves of a unit on a device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from lm_offload.kernels.base import Kernels
from lm_offload.kvcache.cache import KVCache
from lm_offload.micro_batch import MicroBatch
from lm_offload.models.base import Context, ModelFunctions, Weights
from lm_offload.models.blocks import attend, rotated_qkv
from lm_offload.pipeline.exchange import Exchange
from lm_offload.pipeline.micro_batches import SweepInput, build_sweep_input
from lm_offload.schedule.host_attention import most_rows
from lm_offload.schedule.task import Task
from lm_offload.sequence import Batch


@dataclass(frozen=True)
class AttentionParts:
    """What both halves of split units work with, on the device and on the CPU."""

    model: ModelFunctions
    context: Context  # of the device
    kernels: Kernels  # of the CPU
    cache: KVCache  # that the CPU attends to
    exchange: Exchange
    units: frozenset[int]  # that are split, where the CPU does not compute all of them


class HostAttention:
    """What the tasks of a split unit do."""

    def __init__(self, parts: AttentionParts) -> None:
        self.units = parts.units
        self._parts = parts
        self._exchange = parts.exchange
        self._micro_batches: Sequence[MicroBatch] = ()

    def input_of(self, batch: Batch, micro_batch_tokens: int) -> SweepInput:
        """The rows of a sweep in two micro-batches or more."""
        most = most_rows(batch.num_tokens, micro_batch_tokens)
        config, cache = self._parts.context.config, self._parts.cache
        return build_sweep_input(config, batch, most, cache.blocks_of)

    def begin(self, micro_batches: Sequence[MicroBatch]) -> None:
        """These are the rows of the next sweep, for kernels of the CPU."""
        self._micro_batches = micro_batches

    def alone(self) -> int:
        """Leading micro-batches that the CPU has no part in."""
        return 0

    def writes_back(self) -> bool:
        """Whether the CPU only stores what the device has attended to in this sweep."""
        return False

    def copy_of(self, task: Task) -> tuple[Tensor, Tensor]:
        """Source and target of a `send_qkv` or a `return_attended`."""
        if not self._micro_batches:  # a sweep that only reads
            return self._exchange.nothing
        rows = self._sent(task)
        if task.id.kind == "send_qkv":
            return self._exchange.way_down(rows)
        return self._exchange.way_back(rows)

    def compute(
        self, task: Task, layer: int, weights: Weights, hidden: Tensor, rows: MicroBatch
    ) -> None:
        """The device's half that `task` names, on hidden[T, H]."""
        model, context = self._parts.model, self._parts.context
        places = self._exchange.device_qkv(rows)
        if task.id.kind != "project":
            model.add_attended(context, weights, places[0].flatten(1), hidden)
            return
        made = rotated_qkv(model, context, layer, weights, hidden, rows)
        for source, place in zip(made, places, strict=True):
            place.copy_(source)

    def attend(self, task: Task, layer: int) -> None:
        """The CPU's part: store keys and values that were sent, and attend."""
        parts, rows = self._parts, self._sent(task)
        keys, values = parts.cache.keys[layer], parts.cache.values[layer]
        sent, out = self._exchange.host_qkv(rows), self._exchange.host_attended(rows)
        attend(parts.context.config, parts.kernels, layer, sent, rows, keys, values, out)

    def _sent(self, task: Task) -> MicroBatch:
        """The rows that the CPU attends to."""
        return self._micro_batches[task.id.micro_batch]
