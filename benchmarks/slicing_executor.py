"""Takes slices of the machine's pace between the tasks of a sweep, and between two sweeps."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from benchmarks.pace_meter import Slice
from lm_offload.pipeline.executor import NOTHING_STAGED, Compute, Executor
from lm_offload.schedule.kv_staging import Groups
from lm_offload.schedule.task import Task
from lm_offload.step_time import StepTime

TakeSlice = Callable[[bool], Slice]  # with the disk or without
INTERVAL_S = 0.5  # between slices
SIDE = 3  # slices on each side of a run


def side_of(take_slice: TakeSlice) -> list[Slice]:
    """Slices between two runs, or two phases of a long one."""
    return [take_slice(True) for _ in range(SIDE)]


class SlicingExecutor:
    """An executor that takes a slice after a compute task where the last one is long ago."""

    def __init__(self, inner: Executor, take_slice: TakeSlice) -> None:
        self.enabled = False
        self._inner = inner
        self._take_slice = take_slice
        self._slices: list[Slice] = []
        self._sliced_s = 0.0
        self._last_s = time.perf_counter()

    def run_sweep(
        self, micro_batches: Sequence[int], compute: Compute, groups: Groups = NOTHING_STAGED
    ) -> StepTime:
        """See `Executor.run_sweep`; the seconds include those of slices, `cpu_s` too."""

        def compute_and_slice(task: Task) -> None:
            compute(task)
            if self._is_due:
                self._slice()

        return self._inner.run_sweep(micro_batches, compute_and_slice, groups)

    def begin(self) -> None:
        """A run begins, right after a slice: short ones are not interrupted."""
        self._last_s = time.perf_counter()

    @property
    def _is_due(self) -> bool:
        return self.enabled and time.perf_counter() - self._last_s > INTERVAL_S

    def take_between(self) -> list[Slice]:
        """Slices between two sweeps, with the disk, where the last one is long ago."""
        if not self._is_due:
            return []
        slices = side_of(self._take_slice)
        self._last_s = time.perf_counter()
        return slices

    def take(self) -> tuple[list[Slice], float]:
        """The slices since the last call, and their seconds."""
        taken = self._slices, self._sliced_s
        self._slices, self._sliced_s = [], 0.0
        return taken

    def close(self) -> None:
        """See `Executor.close`."""
        self._inner.close()

    def _slice(self) -> None:
        start_s = time.perf_counter()
        self._slices.append(self._take_slice(False))
        self._last_s = time.perf_counter()
        self._sliced_s += self._last_s - start_s
