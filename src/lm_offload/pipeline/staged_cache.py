"""Gives attention its keys and values: where they live, or where they are staged for a moment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from lm_offload.arch.config import ModelConfig
from lm_offload.arch.weights import Unit
from lm_offload.kvcache.spilled import SpilledCache, Transfer
from lm_offload.micro_batch import MicroBatch
from lm_offload.pipeline.replay import SteadyTensors
from lm_offload.pipeline.staged_groups import StagedGroup, stage
from lm_offload.plan import KVSpill
from lm_offload.quant.kv_blocks import Blocks
from lm_offload.schedule.kv_staging import KVGroup
from lm_offload.schedule.task import Task
from lm_offload.sequence import Batch


class Staged(NamedTuple):
    """A group's keys and values in the ring: where they begin, and as kernels take them.

    Views are made when a kernel is called: what is replayed needs the address alone.
    """

    address: int
    views: Callable[[], tuple[Blocks, Blocks]]


Attend = Callable[[MicroBatch, Staged], None]


class StagedCache:
    """The layers of a KV cache that lie on disk, for one sweep after the other."""

    def __init__(
        self,
        config: ModelConfig,
        units: Sequence[Unit],
        spill: KVSpill,
        cache: SpilledCache,
        micro_batch_tokens: int,
    ) -> None:
        self._config = config
        self._spill = spill
        self.cache = cache
        self._max_rows = micro_batch_tokens
        self._layers = {
            number: unit.index
            for number, unit in enumerate(units)
            if unit.kind == "attention" and unit.index in spill.layers
        }
        self._groups: Mapping[int, list[StagedGroup]] = {}  # by unit
        self._places: dict[int, list[tuple[StagedGroup, int]]] = {}  # of each micro-batch

    @property
    def units(self) -> frozenset[int]:
        """The numbers of the units whose cache lies on disk."""
        return frozenset(self._layers)

    def begin(self, batch: Batch, steady: SteadyTensors | None) -> Mapping[int, Sequence[KVGroup]]:
        """Take the batch of the next sweep; returns its groups by unit, for the schedule.

        With `steady` the index tensors lie where those of the last sweep lay.
        """
        windows = {unit: self._config.layers[layer].window for unit, layer in self._layers.items()}
        by_window = {window: self._stage(batch, window) for window in set(windows.values())}
        if steady is not None:
            by_window = {
                window: [group.at_rest(window, steady) for group in groups]
                for window, groups in by_window.items()
            }
        self._groups = {unit: by_window[window] for unit, window in windows.items()}
        self._places = {
            unit: [(group, index) for group in groups for index in range(len(group.micro_batches))]
            for unit, groups in self._groups.items()
        }
        block_bytes = self.cache.block_bytes
        return {
            unit: [group.size(block_bytes) for group in groups]
            for unit, groups in self._groups.items()
        }

    def reads(self, task: Task) -> list[Transfer]:
        """What a `read_kv` has to read."""
        group = self._groups[task.id.unit][task.id.micro_batch]
        return self.cache.reads(self._layers[task.id.unit], task.kv_offset, group.reads)

    def writes(self, task: Task) -> list[Transfer]:
        """What a `write_kv` has to write."""
        group = self._groups[task.id.unit][task.id.micro_batch]
        return self.cache.writes(self._layers[task.id.unit], task.kv_offset, group.writes)

    def attend(self, task: Task, attend: Attend) -> None:
        """Call `attend` with the rows of a compute task and the group that they see."""
        layer, offset = self._layers[task.id.unit], task.kv_offset
        group, index = self._places[task.id.unit][task.id.micro_batch]
        if index == 0:
            self.cache.seat(layer, offset, group.begun)
        views = partial(self.cache.views, offset, group.blocks)
        attend(group.micro_batches[index], Staged(self.cache.address(offset), views))
        if index == len(group.micro_batches) - 1:
            self.cache.keep(layer, offset, group.unfinished)

    def close(self) -> None:
        """Give the file back."""
        self.cache.close()

    def _stage(self, batch: Batch, window: int | None) -> list[StagedGroup]:
        blocks = self._spill.group_blocks
        return stage(self._config, batch.chunks, window, blocks, self._max_rows)
