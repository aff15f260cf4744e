"""Computes what a task says, on the views that the stores give: the model's hands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby

import torch
from torch import Tensor

from lm_offload.arch.weights import Unit, attention_units
from lm_offload.kernels.base import Kernels
from lm_offload.kvcache.cache import KVCache
from lm_offload.kvcache.recurrent_states import RecurrentStates
from lm_offload.micro_batch import MicroBatch
from lm_offload.models.base import Context, ModelFunctions
from lm_offload.pipeline.captures import Captures
from lm_offload.pipeline.continued import Continued
from lm_offload.pipeline.executor import Executor
from lm_offload.pipeline.expert_functions import ExpertFunctions
from lm_offload.pipeline.host_attention import HostAttention
from lm_offload.pipeline.host_units import HostUnits
from lm_offload.pipeline.micro_batches import CPU, SweepInput, on_device
from lm_offload.pipeline.repeats import Repeats
from lm_offload.pipeline.row_functions import RowFunctions
from lm_offload.pipeline.runner_parts import Buffers, Weights, by_micro_batch, task_counts
from lm_offload.pipeline.staged_cache import Staged, StagedCache
from lm_offload.pipeline.sweep_inputs import SweepInputs
from lm_offload.pipeline.sweep_rows import SweepRows
from lm_offload.pipeline.unit_functions import UnitFunctions
from lm_offload.schedule.task import Task
from lm_offload.sequence import Batch
from lm_offload.step_time import StepTime
from lm_offload.storage.unit_views import Views


class ModelRunner:
    """See `runner_parts.Runner`; holds no weights, only where to get them."""

    def __init__(
        self,
        units: Sequence[Unit],
        model: ModelFunctions,
        context: Context,
        store: Weights,
        sweep_rows: SweepRows,
        cache: KVCache,
        staged: StagedCache | None,
        buffers: Buffers,
        micro_batch_tokens: int,
        host: HostAttention | None = None,
        host_units: HostUnits | None = None,
        captures: Captures | None = None,
        experts: ExpertFunctions | None = None,
        states: RecurrentStates | None = None,
    ) -> None:
        self._units = units
        self._context = context
        self._store = store
        self._cache = cache
        self._staged = staged  # layers whose cache lies on disk
        self._buffers = buffers
        self._functions = UnitFunctions(model, context, sweep_rows, buffers)
        self._rows = RowFunctions(self._functions, cache, buffers.hidden, host, experts, states)
        most = micro_batch_tokens
        self._inputs = SweepInputs(context.config, cache, most, host, host_units)
        self._host = host  # attention on the CPU where a device computes
        self._host_units = host_units  # what the CPU computes where it lies, beside a device
        self._experts = experts  # of a mixture of experts
        self._states = states  # of recurrent layers
        all_split = host is not None and host.units == attention_units(units)
        self._cache_device = CPU if all_split else self.device  # where the device's indices are
        recorded = model.KERNELS_ONLY
        self._repeats = Repeats(context, recorded, buffers.hidden, captures)
        alone = host is None and host_units is None and captures is None
        self._goes_on = alone and self.device == CPU  # the host has all index tensors
        self._continued = Continued(context.config, cache.blocks_of)
        self._input: SweepInput

    def run(self, batch: Batch, executor: Executor) -> tuple[Tensor, StepTime]:
        """One sweep over `batch`: logits [R, V] f32 of the rows that want them, and its times."""
        if (following := self._continued.follow(batch)) is None:
            self.begin(self._inputs.of(batch))
            if self._goes_on:
                self._continued.begin(batch, self._input)
        else:
            self._begin(following)
        steady = self._repeats.steady if self._may_repeat else None
        groups = self._staged.begin(batch, steady) if self._staged else {}
        counts = self.task_counts(len(self._input.micro_batches))
        for unit, staged in groups.items():
            counts[unit] = sum(group.computes for group in staged)
        time = executor.run_sweep(counts, self.compute, groups)
        return self.logits, time

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
        """The tasks that follow are those of this sweep, whose tensors lie on the host."""
        self._begin(sweep)
        if self._may_repeat:
            self._input = self._repeats.at_rest(sweep)
        else:
            self._input = on_device(sweep, self.device, self._cache_device)

    def _begin(self, sweep: SweepInput) -> None:
        self._input = sweep
        self._repeats.begin()
        if self._experts is not None:
            self._experts.begin(sweep.micro_batches[-1].stop if sweep.micro_batches else 0)

    def forget(self) -> None:
        """Repeat nothing of what was computed so far: kernels are no longer the same."""
        self._repeats.forget()

    def task_counts(self, micro_batches: int) -> list[int]:
        """Compute tasks of each unit in a sweep of so many micro-batches."""
        return task_counts(self._units, micro_batches)

    def compute(self, task: Task) -> None:
        """What a task of the sweep says."""
        if task.units > 1:
            self._compute_several(task)
            return
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
        elif by_micro_batch(unit):
            rows = self._input.micro_batches[task.id.micro_batch]
            compute = partial(self._rows.compute, task, unit, weights, self._input)
            self._run_between_copies(task, unit, rows, compute)
        elif self._experts is not None and unit.kind == "expert":
            self._experts.compute([(unit, weights)], self._context.kernels)
        elif len(self._input.logit_rows):
            self._functions.head(unit, weights, self._input, self._context.kernels)

    def _compute_several(self, task: Task) -> None:
        """Units that are joined: in decode one recording, since they ask nothing but kernels."""
        if not self._may_repeat:
            self._compute_each(task, self._context.kernels)
            return
        rows = self._input.micro_batches[-1]  # which ends where the sweep does: heads take it whole
        kind = self._units[task.id.unit].kind
        self._repeats.run(task, kind, rows, 0, partial(self._compute_each, task))

    def _compute_each(self, task: Task, kernels: Kernels) -> None:
        for layer, parts in groupby(task.each(), self._layer_of_expert):
            if layer is not None and self._experts is not None:
                numbers = [part.id.unit for part in parts]
                some = [(self._units[it], self._store.acquire(it, -1)) for it in numbers]
                self._experts.compute(some, kernels)
                continue
            for part in parts:
                self._compute_part(part, kernels)

    def _layer_of_expert(self, part: Task) -> int | None:
        """Experts of a layer are computed together."""
        unit = self._units[part.id.unit]
        return unit.index if unit.kind == "expert" else None

    def _compute_part(self, part: Task, kernels: Kernels) -> None:
        unit, weights = self._units[part.id.unit], self._store.acquire(part.id.unit, -1)
        self._context.workspace.reset()
        if by_micro_batch(unit):
            self._rows.compute(part, unit, weights, self._input, kernels)
        elif len(self._input.logit_rows):
            self._functions.head(unit, weights, self._input, kernels)

    @property
    def _may_repeat(self) -> bool:
        """Whether tasks of this sweep may be the same as in others."""
        return self._repeats.possible and self._input.is_decode

    def _run(
        self, task: Task, rows: MicroBatch, cache_at: int, compute: Callable[[Kernels], None]
    ) -> None:
        """Compute, or repeat what other sweeps did."""
        if not self._may_repeat or self._rows.host_of(task.id.unit):
            compute(self._context.kernels)
        else:
            self._repeats.run(task, self._units[task.id.unit].kind, rows, cache_at, compute)

    def _run_between_copies(
        self, task: Task, unit: Unit, rows: MicroBatch, compute: Callable[[Kernels], None]
    ) -> None:
        """Kept states are copied beside what is computed, and so beside what is replayed."""
        if self._states is None or unit.kind != "recurrent":
            self._run(task, rows, 0, compute)
            return
        self._states.load(unit.index, rows.loads)
        self._run(task, rows, 0, compute)
        self._states.save(unit.index, rows.saves)

    def _attend_staged(
        self, task: Task, unit: Unit, weights: Views, rows: MicroBatch, staged: Staged
    ) -> None:
        def compute(kernels: Kernels) -> None:
            self._functions.attend(unit, weights, rows, *staged.views(), kernels)

        self._run(task, rows, staged.address, compute)
