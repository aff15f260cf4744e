"""Times the executor's own tasks where the CPU computes units in some sweeps and not in others.

What `in_place_recurrence.py` is checked against; searches use that, which is faster.
What runs ahead is dropped where a sweep is of the other kind than the one before::

    h2d   | u1 | u2 | u3 | u4 |      | u1' | u3' | ...      a large sweep, then small ones
    gpu        | c1 | c2 | c3 | c4 |       | c1' |
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from lm_offload.planner.sweeps.device_load import DeviceSweepLoad
from lm_offload.planner.sweeps.sweep_simulation import simulated_seconds
from lm_offload.schedule.device_sweep import DeviceSweepSchedule
from lm_offload.schedule.task import Task, TaskId
from tests.planner.copies_back import beside_uploads, waiting


def in_place_seconds(
    loads: Sequence[DeviceSweepLoad],
    in_place: Sequence[frozenset[int]],
    schedule: DeviceSweepSchedule,
) -> list[float]:
    """Seconds of sweeps that follow one another; `in_place` are the units of each of them."""
    last = len(loads[0].compute_s) - 1

    def transfers(sweep: int) -> list[Task]:
        if sweep == 0 or in_place[sweep] == in_place[sweep - 1]:
            return schedule.transfers(sweep, in_place[sweep])
        schedule.restart(sweep)
        end = TaskId(sweep - 1, "download", last)
        moved = schedule.transfers(sweep, in_place[sweep])
        return [replace(task, needs=(*task.needs, end)) for task in moved]

    def computes(sweep: int, micro_batches: Sequence[int]) -> Iterator[Task]:
        return beside_uploads(schedule.computes(sweep, micro_batches, in_place[sweep]))

    return simulated_seconds(waiting(loads), transfers, computes)
