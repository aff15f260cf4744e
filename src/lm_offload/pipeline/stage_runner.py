"""Computes what the tasks of several devices say: a runner for each stage, rows for all of them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from lm_offload.arch.config import ModelConfig
from lm_offload.arch.weights import Unit
from lm_offload.micro_batch import MicroBatch
from lm_offload.pipeline.executor import Executor
from lm_offload.pipeline.micro_batches import build_sweep_input
from lm_offload.pipeline.runner import ModelRunner
from lm_offload.pipeline.runner_parts import task_counts
from lm_offload.schedule.task import Task
from lm_offload.sequence import Batch
from lm_offload.step_time import StepTime


class StageRunner:
    """See `runner_parts.Runner`. `stage_of[unit]` is the stage that computes it."""

    def __init__(
        self,
        config: ModelConfig,
        units: Sequence[Unit],
        runners: Sequence[ModelRunner],
        stage_of: Sequence[int],
        micro_batch_tokens: int,
    ) -> None:
        self._config = config
        self._units = units
        self._runners = runners
        self._stage_of = stage_of
        self._micro_batch_tokens = micro_batch_tokens
        self._micro_batches: Sequence[MicroBatch] = ()

    def run(self, batch: Batch, executor: Executor) -> tuple[Tensor, StepTime]:
        """One sweep over `batch`: logits [R, V] f32 of the rows that want them, and its times."""
        sweep = build_sweep_input(self._config, batch, self._micro_batch_tokens)
        self._micro_batches = sweep.micro_batches
        for runner in self._runners:
            runner.begin(sweep)
        counts = self.task_counts(len(sweep.micro_batches))
        time = executor.run_sweep(counts, self._compute)
        return self._runners[self._stage_of[-1]].logits, time

    def forget(self) -> None:
        """Repeat nothing of what was computed so far: kernels are no longer the same."""
        for runner in self._runners:
            runner.forget()

    def task_counts(self, micro_batches: int) -> list[int]:
        """Compute tasks of each unit in a sweep of so many micro-batches."""
        return task_counts(self._units, micro_batches)

    def rows_of(self, task: Task) -> tuple[Tensor, Tensor]:
        """Hidden states of a micro-batch on the device that made them, and on the next one."""
        stages = self._stage_of[task.id.unit : task.id.unit + 2]
        source, target = (self._runners[stage].hidden for stage in stages)
        if not self._micro_batches:  # a sweep that only reads
            return source[:0], target[:0]
        rows = self._micro_batches[task.id.micro_batch]
        return source[rows.start : rows.stop], target[rows.start : rows.stop]

    def _compute(self, task: Task) -> None:
        self._runners[self._stage_of[task.id.unit]].compute(task)
