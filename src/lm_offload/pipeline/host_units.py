"""Units that the CPU computes where their weights lie, on hidden states that a device sends.

::

    device   | rows 0 | rows 1 | ...     hidden states of a sweep
    host     | rows 0 | rows 1 |         the same rows of a small one
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from lm_offload.arch.weights import Unit
from lm_offload.kvcache.cache import KVCache
from lm_offload.micro_batch import MicroBatch
from lm_offload.models.base import Context, ModelFunctions
from lm_offload.models.blocks import attention
from lm_offload.schedule.in_place import NOTHING, InPlace
from lm_offload.schedule.task import Task
from lm_offload.storage.unit_views import Views


class Homes(Protocol):
    """Where the weights of a unit lie in host memory."""

    def acquire(self, unit: int, ring_offset: int) -> Views:
        """The weights of `unit` by role, below zero where it lives."""


class HostUnits:
    """What the tasks of these units do; `context` is the CPU's, with a workspace of its own."""

    def __init__(
        self,
        model: ModelFunctions,
        context: Context,
        homes: Homes,
        cache: KVCache,
        in_place: InPlace,
        on_device: Tensor,
        on_host: Tensor,
    ) -> None:
        """Hidden states f32: on_device[sweep_tokens, H], on_host[most rows in place, H].

        Of `cache` the layers whose attention is among the units lie in host memory.
        """
        self._model = model
        self._context = context
        self._homes = homes
        self._cache = cache
        self._in_place = in_place
        self._on_device = on_device
        self._on_host = on_host
        self._micro_batches: Sequence[MicroBatch] = ()

    def begin(self, micro_batches: Sequence[MicroBatch]) -> None:
        """These are the rows of the next sweep, for kernels of the CPU."""
        self._micro_batches = micro_batches

    def units(self) -> frozenset[int]:
        """Those that the CPU computes in the next sweep; none in one that only reads."""
        rows = self._micro_batches[-1].stop if self._micro_batches else 0
        return self.units_of(rows) if rows else NOTHING

    def units_of(self, rows: int) -> frozenset[int]:
        """Those that the CPU computes in a sweep of so many rows."""
        return self._in_place.of(rows)

    def copy_of(self, task: Task) -> tuple[Tensor, Tensor]:
        """Source and target of a `download_hidden` or an `upload_hidden`."""
        rows = self._micro_batches[task.id.micro_batch]
        sides = self._on_device[rows.start : rows.stop], self._on_host[rows.start : rows.stop]
        return sides if task.id.kind == "download_hidden" else sides[::-1]

    def compute(self, task: Task, unit: Unit) -> None:
        """The unit that `task` names: an MLP, or attention over keys and values here."""
        rows = self._micro_batches[task.id.micro_batch]
        weights = self._homes.acquire(task.id.unit, -1)
        self._context.workspace.reset()
        hidden = self._on_host[rows.start : rows.stop]
        if unit.kind == "mlp":
            self._model.mlp(self._context, unit.index, weights, hidden)
            return
        kv = self._cache.keys[unit.index], self._cache.values[unit.index]
        attention(self._model, self._context, unit.index, weights, hidden, rows, *kv)
