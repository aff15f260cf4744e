"""When each sweep of a run ends, without a task for every read and compute.

The tasks of `SweepSchedule` in order of use: whatever one waits for comes before it::

    part ends      max(the part before, releases of what lay in its place)  + its seconds
    compute ends   max(the compute before, its reads)                       + its seconds

A search times many runs of hundreds of units, for which tasks on a timeline take too long. Both
give the same seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from lm_offload.planner.sweeps.expert_time import LayerExperts
from lm_offload.planner.sweeps.kv_reads import LayerReads
from lm_offload.planner.sweeps.sweep_load import SweepLoad
from lm_offload.schedule.part_ring import Part, PartRing
from lm_offload.schedule.ring import Key, Ring


def sweep_seconds(
    loads: Sequence[SweepLoad],
    streamed_bytes: Mapping[int, int],
    ring_bytes: int,
    in_flight_bytes: int,
    kv_ring_blocks: int = 0,
) -> list[float]:
    """Seconds of sweeps that follow one another, as the simulation of their tasks gives them.

    Units are read in the parts that `in_flight_bytes` make of them.
    """
    if not streamed_bytes and not kv_ring_blocks and not loads[0].experts:
        return [load.cpu_s + load.overhead_s for load in loads]
    clocks = _Clocks(streamed_bytes, ring_bytes, in_flight_bytes)
    begin_s = clocks.first_compute_s(loads[0])
    ends = [clocks.run(sweep, load, kv_ring_blocks) for sweep, load in enumerate(loads)]
    return [end - start for start, end in pairwise([begin_s, *ends])]


class _Clocks:
    """How far each resource has come."""

    def __init__(
        self, streamed_bytes: Mapping[int, int], ring_bytes: int, in_flight_bytes: int
    ) -> None:
        self._streamed_bytes = streamed_bytes
        self._ring = PartRing(ring_bytes, in_flight_bytes)
        self._released_s: dict[Key | None, float] = {None: 0.0}
        self._parts: dict[Key, list[Part]] = {}  # of units that are not read yet
        self._ready_s: dict[Key, float] = {}
        self._cpu_s = self._disk_s = self._write_s = 0.0

    def first_compute_s(self, load: SweepLoad) -> float:
        """When the first unit begins: an engine that has nothing to compute fills the ring."""
        self._cpu_s = load.read_s.get(0, 0.0) + sum(load.read_s.values())
        return self._cpu_s

    def run(self, sweep: int, load: SweepLoad, kv_ring_blocks: int) -> float:
        """The end of a sweep with the engine's overhead, which its last unit waits for too."""
        known_s = max(self._cpu_s, self._write_s) if sweep else 0.0
        staging = _Staging(load.kv, kv_ring_blocks, known_s)
        last = len(load.compute_s) - 1
        for unit, compute_s in enumerate(load.compute_s):
            key = Key(sweep, unit)
            if unit == 0 and load.behind_s:
                self._queue_behind(sweep, load)
            if unit in load.read_s:
                self._read(key, load)
                self._cpu_s = max(self._cpu_s, self._ready_s.pop(key))
            if unit in load.kv:
                self._attend(key, compute_s, load.kv[unit], staging)
            else:
                self._cpu_s += compute_s + (load.overhead_s if unit == last else 0.0)
            if unit in load.read_s:
                self._released_s[key] = self._cpu_s
            if unit in load.experts:
                self._use(load.experts[unit])
        return self._cpu_s

    def _use(self, experts: LayerExperts) -> None:
        """A layer's experts, of which those on disk are read once the router has said which."""
        begin_s = max(self._cpu_s, self._disk_s)
        if not experts.read_s:
            self._cpu_s += experts.compute_s
        elif experts.waits:
            self._cpu_s = self._disk_s = begin_s + experts.alone_s
        else:
            self._disk_s = begin_s + experts.read_s
            self._cpu_s = max(self._cpu_s + experts.compute_s, self._disk_s + experts.last_s)

    def _queue_behind(self, sweep: int, load: SweepLoad) -> None:
        """The first unit asks the disk, too, which reads on as far as the ring allows."""
        for unit in load.read_s:
            key = Key(sweep, unit)
            if not all(part.gate in self._released_s for part in self._parts_of(key)):
                break
            self._read(key, load)
        self._cpu_s += min(max(self._disk_s - self._cpu_s, 0.0), load.behind_s)

    def _parts_of(self, key: Key) -> list[Part]:
        if key not in self._parts:
            _, self._parts[key] = self._ring.place(key, self._streamed_bytes[key.unit])
        return self._parts[key]

    def _read(self, key: Key, load: SweepLoad) -> None:
        """A unit, unless that was done."""
        if key in self._ready_s:
            return
        size_bytes, read_s = self._streamed_bytes[key.unit], load.read_s[key.unit]
        since_s, since_bytes = self._disk_s, 0
        for part in self._parts_of(key):
            if self._released_s[part.gate] > self._disk_s:
                since_s, since_bytes = self._released_s[part.gate] + load.idle_s, 0
            since_bytes += part.size_bytes
            self._disk_s = since_s + read_s * (since_bytes / size_bytes)
        self._ready_s[key] = self._disk_s
        del self._parts[key]

    def _attend(self, key: Key, compute_s: float, layer: LayerReads, staging: _Staging) -> None:
        """A layer whose cache is on disk: its groups are read, computed and written in turn."""
        groups = layer.sizes
        for part, group in enumerate(groups):
            own = key._replace(part=part)
            ready_s = staging.place(own, group.blocks)
            if group.read_bytes:
                start_s = max(self._disk_s, ready_s, staging.known_s)
                ready_s = self._disk_s = start_s + layer.read_s / len(groups)
                staging.unread_s = 0.0
            self._cpu_s = max(self._cpu_s, ready_s) + compute_s / len(groups)
            staging.written_s[own] = self._cpu_s
            if group.write_bytes:
                self._write_s = max(self._write_s, self._cpu_s) + layer.write_s / len(groups)
                staging.written_s[own] = self._write_s


class _Staging:
    """The ring for keys and values of one sweep; `known_s` is when its reads are known."""

    def __init__(self, layers: Mapping[int, LayerReads], ring_blocks: int, known_s: float) -> None:
        most = max((group.blocks for layer in layers.values() for group in layer.sizes), default=0)
        self._ring = Ring(max(ring_blocks, 2 * most))
        self.known_s = known_s
        self.written_s: dict[Key, float] = {}
        self.unread_s = 0.0  # what groups without a read leave to the next one

    def place(self, key: Key, blocks: int) -> float:
        """When the place of a group is free."""
        _, evicted = self._ring.place(key, blocks)
        self.unread_s = max([self.unread_s, *(self.written_s.pop(old) for old in evicted)])
        return self.unread_s
