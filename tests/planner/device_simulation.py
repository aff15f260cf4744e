"""Times the tasks of `DeviceSweepSchedule` with predicted durations, one by one.

What `device_recurrence.py` is checked against; searches use that, which is faster.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from lm_offload.planner.sweeps.sweep_simulation import Computes, simulated_seconds
from lm_offload.schedule.device_sweep import DeviceSweepSchedule, Transfers
from lm_offload.schedule.in_place import NOTHING
from lm_offload.schedule.task import Task
from tests.planner.copies_back import beside_uploads, waiting

if TYPE_CHECKING:
    from lm_offload.planner.sweeps.device_load import DeviceSweepLoad


def device_sweep_seconds(
    loads: Sequence[DeviceSweepLoad], transfers: Transfers, on_host: frozenset[int] = frozenset()
) -> list[float]:
    """Seconds of sweeps that follow one another, both rings filled before."""
    schedule = DeviceSweepSchedule(transfers, on_host)
    ways = [(load.alone, load.writes_back) for load in loads]
    return simulated_seconds(waiting(loads), schedule.transfers, _computes(schedule, ways))


def _computes(schedule: DeviceSweepSchedule, ways: Sequence[tuple[int, bool]]) -> Computes:
    def computes(sweep: int, micro_batches: Sequence[int]) -> Iterator[Task]:
        return beside_uploads(schedule.computes(sweep, micro_batches, NOTHING, *ways[sweep]))

    return computes
