"""When each sweep of a run on three tiers ends, without a task for every transfer and compute.

The tasks of `DeviceSweepSchedule` in the order in which the device computes: whatever one waits for
comes before it::

    read ends      max(the read before, uploads of what lay in its place)              + its seconds
    upload ends    max(the upload before, its read, releases of what lay in its place) + its seconds
    compute ends   max(the compute before, its upload, what the CPU made for it)       + its seconds

A search times many runs of hundreds of units, for which tasks on a timeline take too long. Both
give the same seconds.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from lm_offload.planner.ring_gates import ring_gates
from lm_offload.schedule.device_sweep import Transfers
from lm_offload.schedule.host_attention import stages_of

if TYPE_CHECKING:
    from lm_offload.planner.device_time import DeviceSweepLoad


def device_sweep_seconds(
    loads: Sequence[DeviceSweepLoad], transfers: Transfers, on_host: frozenset[int] = frozenset()
) -> list[float]:
    """Seconds of sweeps that follow one another, as the simulation of their tasks gives them.

    The CPU attends to the units `on_host`; both rings are full when the first sweep begins.
    """
    clocks = _Clocks(transfers, len(loads))
    ends = [clocks.first_compute_s(loads[0])]
    steps: dict[tuple[int, ...], list[_Step]] = {}
    for load in loads:
        counts = tuple(load.counts)
        if counts not in steps:
            steps[counts] = [*_steps(counts, on_host, transfers)]
        ends.append(clocks.run(load, steps[counts]))
    return [end - start for start, end in itertools.pairwise(ends)]


class _Step(NamedTuple):
    """What the device computes of a unit at one time."""

    unit: int
    projects: bool  # the part before the CPU attends
    returns: bool  # the part after that
    arrives: bool  # the first of an uploaded unit
    leaves: bool  # and the last


def _steps(counts: Sequence[int], on_host: frozenset[int], transfers: Transfers) -> Iterator[_Step]:
    uploaded = transfers.upload_bytes
    for stage in stages_of(counts, on_host, uploaded, transfers.device_ring_bytes):
        last = counts[stage[0].unit] - 1
        for micro_batch, (unit, kind) in itertools.product(range(last + 1), stage):
            projects, returns = kind == "project", kind == "compute" and unit in on_host
            arrives = unit in uploaded and micro_batch == 0 and not returns
            leaves = unit in uploaded and micro_batch == last and not projects
            yield _Step(unit, projects, returns, arrives, leaves)


class _Pieces(NamedTuple):
    """Seconds of one micro-batch of each unit."""

    project: Sequence[float]  # on the device, before the CPU attends
    attend: Sequence[float]
    compute: Sequence[float]  # the rest, or all of a unit that is in one piece
    down_s: float
    up_s: float


def _pieces(load: DeviceSweepLoad) -> _Pieces:
    compute, host = [*load.compute_s], load.host
    if host is None:
        compute[-1] += load.overhead_s
        return _Pieces((), (), compute, 0.0, 0.0)
    attend = [seconds / count for seconds, count in zip(host.attend, host.counts, strict=True)]
    whole = [seconds / count for seconds, count in zip(compute, host.counts, strict=True)]
    project = [
        host.project_frac * seconds if attended else 0.0
        for seconds, attended in zip(whole, attend, strict=True)
    ]
    compute = [seconds - before for seconds, before in zip(whole, project, strict=True)]
    compute[-1] += load.overhead_s
    return _Pieces(project, attend, compute, host.down_s, host.up_s)


class _Clocks:
    """How far each resource has come."""

    def __init__(self, transfers: Transfers, sweeps: int) -> None:
        read, upload = (
            [size for _, size in sorted(sizes.items())]
            for sizes in (transfers.read_bytes, transfers.upload_bytes)
        )
        self._read_gates = iter(ring_gates(tuple(read), transfers.ring_bytes, sweeps))
        self._upload_gates = iter(ring_gates(tuple(upload), transfers.device_ring_bytes, sweeps))
        self._left_host_s = [0.0]  # when the n-th unit had left its ring, 0 before the first
        self._left_device_s = [0.0]
        self._disk_s = self._link_s = self._device_s = self._down_s = self._cpu_s = 0.0
        self._attended_s: deque[float] = deque()

    def first_compute_s(self, load: DeviceSweepLoad) -> float:
        """When the first unit begins: an engine that has nothing to compute fills both rings."""
        first_s = load.read_s.get(0, 0.0) + load.upload_s.get(0, 0.0)
        self._device_s = first_s + load.fill_s
        return self._device_s

    def run(self, load: DeviceSweepLoad, steps: Sequence[_Step]) -> float:
        """The end of a sweep with the engine's overhead, which its last unit waits for too."""
        pieces = _pieces(load)
        for unit, projects, returns, arrives, leaves in steps:
            if arrives:
                self._device_s = max(self._device_s, self._upload(unit, load))
            if projects:
                self._device_s += pieces.project[unit]
                self._attend(pieces.attend[unit], pieces.down_s)
                continue
            if returns:
                self._device_s = max(self._device_s, self._return(pieces.up_s))
            self._device_s += pieces.compute[unit]
            if leaves:
                self._left_device_s.append(self._device_s)
        return self._device_s

    def _upload(self, unit: int, load: DeviceSweepLoad) -> float:
        """The end of an upload and of the read before it."""
        start_s = max(self._link_s, self._left_device_s[next(self._upload_gates)])
        if unit not in load.read_s:
            self._link_s = start_s + load.upload_s[unit]
            return self._link_s
        free_s = self._left_host_s[next(self._read_gates)]
        self._disk_s = max(self._disk_s, free_s) + load.read_s[unit]
        self._link_s = max(start_s, self._disk_s) + load.upload_s[unit]
        self._left_host_s.append(self._link_s)
        return self._link_s

    def _attend(self, attend_s: float, down_s: float) -> None:
        """What was just projected goes to the CPU."""
        self._down_s = max(self._down_s, self._device_s) + down_s
        self._cpu_s = max(self._cpu_s, self._down_s) + attend_s
        self._attended_s.append(self._cpu_s)

    def _return(self, up_s: float) -> float:
        """What the CPU made comes back, on the way that `_beside_uploads` of the tasks takes."""
        self._down_s = max(self._down_s, self._attended_s.popleft()) + up_s
        return self._down_s
