"""When each sweep of a run on three tiers ends, without a task for every transfer and compute.

The tasks of `DeviceSweepSchedule` in the order in which the device computes: whatever one waits for
comes before it::

    read ends      max(the read before, uploads of what lay in its place)              + its seconds
    upload ends    max(the upload before, its read, releases of what lay in its place) + its seconds
    compute ends   max(the compute before, its upload, what the CPU made for it)       + its seconds
    return ends    max(the return before, what the CPU made + blocks of uploads)       + its seconds

A search times many runs of hundreds of units, for which tasks on a timeline take too long. Both
give the same seconds.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from lm_offload.planner.sweeps.host_load import HostLoad
from lm_offload.planner.sweeps.ring_gates import ring_gates
from lm_offload.planner.sweeps.written_back import WrittenBack
from lm_offload.schedule.device_sweep import Transfers
from lm_offload.schedule.host_attention import stages_of

if TYPE_CHECKING:
    from lm_offload.planner.sweeps.device_load import DeviceSweepLoad


def device_sweep_seconds(
    loads: Sequence[DeviceSweepLoad], transfers: Transfers, on_host: frozenset[int] = frozenset()
) -> list[float]:
    """Seconds of sweeps that follow one another, as the simulation of their tasks gives them.

    The CPU attends to the units `on_host`; both rings are full when the first sweep begins.
    """
    clocks = Clocks(transfers, len(loads))
    ends = [clocks.first_compute_s(loads[0])]
    steps: dict[tuple[Sequence[int], int], list[_Step]] = {}
    for load in loads:
        if load.host is None:
            ends.append(clocks.run(load))
            continue
        if isinstance(load.host, WrittenBack):
            ends.append(clocks.run_writing(load, load.host))
            continue
        kind = tuple(load.counts), load.host.alone
        if kind not in steps:
            steps[kind] = [*_steps(*kind, on_host, transfers)]
        ends.append(clocks.run_beside(load, load.host, steps[kind]))
    return [end - start for start, end in itertools.pairwise(ends)]


class _Step(NamedTuple):
    """What the device computes of a unit at one time."""

    micro_batch: int
    unit: int
    projects: bool  # the part before the CPU attends
    attends: bool  # the CPU between both parts
    arrives: bool  # the first of an uploaded unit
    leaves: bool  # and the last


def _steps(
    counts: Sequence[int], alone: int, on_host: frozenset[int], transfers: Transfers
) -> Iterator[_Step]:
    uploaded = transfers.upload_bytes
    for stage in stages_of(counts, on_host, uploaded, transfers.device_ring_bytes):
        last = counts[stage[0].unit] - 1
        for micro_batch, (unit, kind) in itertools.product(range(last + 1), stage):
            projects, attends = kind == "project", unit in on_host and micro_batch >= alone
            is_first = micro_batch == 0 and (projects or unit not in on_host)
            arrives = unit in uploaded and is_first
            leaves = unit in uploaded and micro_batch == last and not projects
            yield _Step(micro_batch, unit, projects, attends, arrives, leaves)


class Clocks:
    """How far each resource has come; the rings are empty when they start."""

    def __init__(self, transfers: Transfers, sweeps: int, start_s: float = 0.0) -> None:
        self._uploaded = sorted(transfers.upload_bytes)
        read = tuple(size for _, size in sorted(transfers.read_bytes.items()))
        upload = tuple(transfers.upload_bytes[unit] for unit in self._uploaded)
        self._read_gates = iter(ring_gates(read, transfers.ring_bytes, sweeps))
        self._upload_gates = iter(ring_gates(upload, transfers.device_ring_bytes, sweeps))
        self._left_host_s = [0.0]  # when the n-th unit had left its ring, 0 before the first
        self._left_device_s = [0.0]
        self._disk_s = self._link_s = self._device_s = start_s
        self._down_s = self._cpu_s = self._up_s = start_s  # `up`: what comes back, beside uploads

    def first_compute_s(self, load: DeviceSweepLoad) -> float:
        """When the first unit begins: an engine that has nothing to compute fills both rings."""
        first_s = load.read_s.get(0, 0.0) + load.upload_s.get(0, 0.0)
        self._device_s = first_s + load.fill_s
        return self._device_s

    def run(self, load: DeviceSweepLoad) -> float:
        """The end of a sweep with the engine's overhead, which its last unit waits for too."""
        compute_s, next_unit = _with_overhead(load.compute_s, load), 0
        for unit in self._uploaded:
            here_s = self._device_s + sum(compute_s[next_unit:unit])
            self._device_s = max(here_s, self._upload(unit, load)) + compute_s[unit]
            self._left_device_s.append(self._device_s)
            next_unit = unit + 1
        self._device_s += sum(compute_s[next_unit:])
        return self._device_s

    def run_beside(self, load: DeviceSweepLoad, host: HostLoad, steps: Sequence[_Step]) -> float:
        """The same where the CPU attends to one micro-batch beside another."""
        turns = host.turns(_with_overhead(load.compute_s, load))
        device_s, down_s, cpu_s, up_s = self._device_s, self._down_s, self._cpu_s, self._up_s
        attended_s: deque[float] = deque()
        for micro_batch, unit, projects, attends, arrives, leaves in steps:
            turn = turns[micro_batch]
            if arrives and (ready_s := self._upload(unit, load)) > device_s:
                device_s = ready_s
            if projects:
                device_s += turn.project_s[unit]
                if attends:
                    down_s = (device_s if device_s > down_s else down_s) + turn.down_s
                    cpu_s = (down_s if down_s > cpu_s else cpu_s) + turn.attend_s[unit]
                    attended_s.append(cpu_s)
                continue
            if attends:
                ready_s = attended_s.popleft() + load.wait_s
                up_s = (ready_s if ready_s > up_s else up_s) + turn.up_s
                device_s = up_s if up_s > device_s else device_s
            device_s += turn.compute_s[unit]
            if leaves:
                self._left_device_s.append(device_s)
        self._device_s, self._down_s, self._cpu_s, self._up_s = device_s, down_s, cpu_s, up_s
        return device_s

    def run_writing(self, load: DeviceSweepLoad, host: WrittenBack) -> float:
        """The same where keys and values go to the host, those of a unit before the next one's."""
        compute_s, stored_s = _with_overhead(load.compute_s, load), dict[int, float]()
        for unit, micro_batch in _in_turn(host.counts):
            if unit in load.upload_s and micro_batch == 0:
                self._device_s = max(self._device_s, self._upload(unit, load))
            if host.attend[unit]:
                self._device_s = max(self._device_s, stored_s.get(micro_batch, 0.0))
            self._device_s += compute_s[unit] / host.counts[unit]
            if host.attend[unit]:
                self._down_s = max(self._down_s, self._device_s) + host.down_s
                store_s = host.attend[unit] / host.counts[unit]
                self._cpu_s = stored_s[micro_batch] = max(self._cpu_s, self._down_s) + store_s
            if unit in load.upload_s and micro_batch == host.counts[unit] - 1:
                self._left_device_s.append(self._device_s)
        self._down_s = max(self._down_s, *stored_s.values())  # the download waits for all of it
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


def _in_turn(counts: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Units, each with all of its micro-batches."""
    return ((unit, number) for unit, count in enumerate(counts) for number in range(count))


def _with_overhead(compute_s: Sequence[float], load: DeviceSweepLoad) -> list[float]:
    return [*compute_s[:-1], compute_s[-1] + load.overhead_s]
