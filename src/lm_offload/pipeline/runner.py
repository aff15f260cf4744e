"""Computes what a task says, on the views that the stores give: the model's hands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from lm_offload.arch.weights import Unit
from lm_offload.kernels.base import Kernels
from lm_offload.kvcache.cache import KVCache
from lm_offload.models.base import Context, ModelFunctions
from lm_offload.models.blocks import attention
from lm_offload.pipeline.executor import Executor
from lm_offload.pipeline.host_attention import HostAttention
from lm_offload.pipeline.host_units import HostUnits
from lm_offload.pipeline.micro_batches import SweepInput, build_sweep_input
from lm_offload.pipeline.replay import Place, Replays, SteadyTensors, at_rest
from lm_offload.pipeline.runner_parts import Buffers, Weights
from lm_offload.pipeline.staged_cache import StagedCache
from lm_offload.plan import StepTime
from lm_offload.quant.kv_blocks import Blocks, address_of
from lm_offload.schedule.task import Task
from lm_offload.sequence import Batch, MicroBatch
from lm_offload.storage.unit_views import Views
from lm_offload.storage.weight_store import Rows


class ModelRunner:
    """See `runner_parts.Runner`; holds no weights, only where to get them."""

    def __init__(
        self,
        units: Sequence[Unit],
        model: ModelFunctions,
        context: Context,
        store: Weights,
        tables: Mapping[str, Rows],
        cache: KVCache,
        staged: StagedCache | None,
        buffers: Buffers,
        micro_batch_tokens: int,
        host: HostAttention | None = None,
        host_units: HostUnits | None = None,
    ) -> None:
        self._units = units
        self._model = model
        self._context = context
        self._store = store
        self._tables = tables
        self._cache = cache
        self._staged = staged  # layers whose cache lies on disk
        self._buffers = buffers
        self._micro_batch_tokens = micro_batch_tokens
        self._host = host  # attention on the CPU where a device computes
        self._host_units = host_units  # what the CPU computes where it lies, beside a device
        self._replays = Replays(context.kernels)
        self._steady = SteadyTensors(self._replays.forget)
        self._input: SweepInput

    def run(self, batch: Batch, executor: Executor) -> tuple[Tensor, StepTime]:
        """One sweep over `batch`: logits [R, V] f32 of the rows that want them, and its times."""
        self.begin(self._input_of(batch))
        if self._host is not None:
            self._host.begin(self._input.micro_batches)
        if self._host_units is not None:
            self._host_units.begin(self._input.micro_batches)
        steady = self._steady if self._repeats else None
        groups = self._staged.begin(batch, steady) if self._staged else {}
        counts = self.task_counts(len(self._input.micro_batches))
        for unit, staged in groups.items():
            counts[unit] = sum(group.computes for group in staged)
        time = executor.run_sweep(counts, self.compute, groups)
        return self.logits, time

    def _input_of(self, batch: Batch) -> SweepInput:
        most, config = self._micro_batch_tokens, self._context.config
        if self._host is not None:
            return self._host.input_of(batch, most)
        places = self.device, self.device
        return build_sweep_input(config, batch, most, *places, self._cache.blocks_of)

    @property
    def hidden(self) -> Tensor:
        """Of all rows of a sweep, [T, H] f32."""
        return self._buffers.hidden

    @property
    def device(self) -> torch.device:
        """Where hidden states lie."""
        return self._buffers.hidden.device

    @property
    def logits(self) -> Tensor:
        """Of the sweep that was run, [R, V] f32."""
        return self._buffers.result[: len(self._input.logit_rows)]

    def begin(self, sweep: SweepInput) -> None:
        """The tasks that follow are those of this sweep."""
        self._input = sweep
        if self._repeats:
            self._input = self._at_rest(sweep)

    def forget(self) -> None:
        """Repeat nothing of what was computed so far: kernels are no longer the same."""
        self._replays.forget()

    def task_counts(self, micro_batches: int) -> list[int]:
        """Compute tasks of each unit in a sweep of so many micro-batches."""
        return task_counts(self._units, micro_batches)

    def _at_rest(self, sweep: SweepInput) -> SweepInput:
        """The same, at the addresses of the last sweep, so that it may repeat what that did."""
        micro_batches = (at_rest(rows, "", self._steady) for rows in sweep.micro_batches)
        return replace(sweep, micro_batches=tuple(micro_batches))

    def compute(self, task: Task) -> None:
        """What a task of the sweep says."""
        if task.id.kind == "download":
            count = len(self._input.logit_rows)
            self._buffers.result[:count].copy_(self._buffers.logits[:count], non_blocking=True)
            return
        unit = self._units[task.id.unit]
        if self._host is not None and task.id.kind == "attend":
            self._host.attend(task, unit.index)
            return
        if self._host_units is not None and task.resource == "cpu":
            self._host_units.compute(task, unit)
            return
        weights = self._store.acquire(task.id.unit, task.ring_offset)
        self._context.workspace.reset()
        if self._staged is not None and task.kv_offset >= 0:
            self._staged.attend(task, partial(self._attend_staged, task, unit, weights))
        elif _by_micro_batch(unit):
            rows = self._input.micro_batches[task.id.micro_batch]
            self._run(task, rows, 0, partial(self._compute_rows, task, unit, weights, rows))
        elif len(self._input.logit_rows):
            self._compute_logits(unit, weights)

    @property
    def _repeats(self) -> bool:
        """Whether tasks of this sweep may be the same as in others."""
        return self._replays.possible and self._input.is_decode

    def _run(
        self, task: Task, rows: MicroBatch, cache_at: int, compute: Callable[[Kernels], None]
    ) -> None:
        """Compute, or replay what was the same in other sweeps but for the place in a ring."""
        unit = self._units[task.id.unit]
        whole = self._host is None or unit.kind != "attention"
        if not (self._repeats and whole and unit.kind in self._model.KERNELS_ONLY):
            compute(self._context.kernels)
            return
        staged = task.ring_offset >= 0
        key = task.id.unit, staged, rows.start, rows.stop, rows.block_tables.shape
        place = Place(task.ring_offset if staged else 0, cache_at)
        self._replays.run(key, compute, place)

    def _compute_rows(
        self, task: Task, unit: Unit, weights: Views, rows: MicroBatch, kernels: Kernels
    ) -> None:
        hidden = self._buffers.hidden[rows.start : rows.stop]
        context = replace(self._context, kernels=kernels)
        if unit.kind == "mlp":
            self._model.mlp(context, unit.index, weights, hidden)
        elif unit.kind == "attention" and self._host is not None:
            self._host.compute(task, unit.index, weights, hidden, rows)
        elif unit.kind == "attention":
            keys, values = self._cache.keys[unit.index], self._cache.values[unit.index]
            self._attend(unit, weights, rows, keys, values, kernels)
        else:
            token_ids = self._input.token_ids[rows.start : rows.stop]
            wanted = self._model.embed_rows(context.config, token_ids, rows.positions)
            found = {role: self._tables[role].gather(index) for role, index in wanted.items()}
            self._model.embed(context, found, hidden, weights)

    def _attend_staged(
        self,
        task: Task,
        unit: Unit,
        weights: Views,
        rows: MicroBatch,
        keys: Blocks,
        values: Blocks,
    ) -> None:
        compute = partial(self._attend, unit, weights, rows, keys, values)
        self._run(task, rows, address_of(keys), compute)

    def _attend(
        self,
        unit: Unit,
        weights: Views,
        rows: MicroBatch,
        keys: Blocks,
        values: Blocks,
        kernels: Kernels,
    ) -> None:
        hidden = self._buffers.hidden[rows.start : rows.stop]
        context = replace(self._context, kernels=kernels)
        attention(self._model, context, unit.index, weights, hidden, rows, keys, values)

    def _compute_logits(self, unit: Unit, weights: Views) -> None:
        count = len(self._input.logit_rows)
        normed = self._buffers.normed[:count]
        if unit.kind == "final_norm":
            hidden = self._buffers.hidden[self._input.logit_rows]
            self._model.final_norm(self._context, weights, hidden, normed)
        else:
            first, last = unit.weights[0].rows or (0, self._context.config.vocab_size)
            logits = self._buffers.logits[:count, first:last]
            self._model.head(self._context, weights, normed, logits)


def task_counts(units: Sequence[Unit], micro_batches: int) -> list[int]:
    """Compute tasks of each unit in a sweep of so many micro-batches."""
    return [micro_batches if _by_micro_batch(unit) else 1 for unit in units]


def _by_micro_batch(unit: Unit) -> bool:
    return unit.kind in ("embed", "attention", "mlp")
