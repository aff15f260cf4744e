"""When sweeps end of which some have units in place, without a timeline of all their tasks.

The tasks of one sweep stand for those of all that are alike; they are replayed on clocks, in the
order in which `DeviceSweepSchedule` yields them::

    gpu    ends   max(the gpu, its upload, what came back) + its seconds
    down   ends   max(the way down, the gpu)               + its seconds     hidden states, or
    cpu    ends   max(the cpu, what came down)             + its seconds     queries, keys, values
    up     ends   max(the way up, the cpu + blocks)        + its seconds     beside uploads

Where the next sweep is of the other kind the rings are empty and fill anew.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from lm_offload.planner.sweeps.device_recurrence import Clocks
from lm_offload.schedule.device_sweep import Transfers
from lm_offload.schedule.host_attention import Piece, stages_of
from lm_offload.schedule.task import Kind

if TYPE_CHECKING:
    from lm_offload.planner.sweeps.device_load import DeviceSweepLoad

_GPU, _DOWN, _CPU, _UP, _LEAVES = range(5)


def in_place_sweep_seconds(
    loads: Sequence[DeviceSweepLoad],
    in_place: Sequence[frozenset[int]],
    transfers: Transfers,
    on_host: frozenset[int],
    programs: Programs | None = None,
) -> list[float]:
    """Seconds of sweeps that follow one another, as the simulation of their tasks gives them.

    `in_place` are the units of each of them that the CPU computes, `programs` those of others.
    """
    programs = {} if programs is None else programs
    known = _key(transfers, on_host)
    ends: list[float] = []
    pairs = zip(in_place, loads, strict=True)
    for units, of_a_kind in itertools.groupby(pairs, key=lambda pair: pair[0]):
        alike = [load for _, load in of_a_kind]
        clocks = _InPlaceClocks(_without(transfers, units), len(alike), ends[-1] if ends else 0.0)
        if not ends:
            ends.append(clocks.first_compute_s(alike[0]))
        for load in alike:
            key = known, units, *load.counts
            if key not in programs:
                programs[key] = _program(transfers, on_host, load.counts, units)
            ends.append(clocks.replay(load, programs[key]))
    return [end - start for start, end in itertools.pairwise(ends)]


def _without(transfers: Transfers, in_place: frozenset[int]) -> Transfers:
    moved = {it: size for it, size in transfers.upload_bytes.items() if it not in in_place}
    return replace(transfers, upload_bytes=moved)


def _key(transfers: Transfers, on_host: frozenset[int]) -> tuple[object, ...]:
    """What the tasks of a sweep depend on; where units lie in the rings does not matter."""
    return tuple(transfers.upload_bytes.items()), transfers.device_ring_bytes, on_host


# A task: where it is computed or copied, of which unit and micro-batch, which of the kinds of the
# program it is, and whether it is the first of an uploaded unit. Many, so without a class.
_Step = tuple[int, int, int, int, bool]


@dataclass(frozen=True)
class _Program:
    """The tasks of a sweep, and one of each kind and unit: those of all micro-batches are alike."""

    steps: Sequence[_Step]
    kinds: Sequence[tuple[Kind, int]]

    def seconds(self, load: DeviceSweepLoad) -> list[float]:
        """Of each kind, the engine's overhead with the last unit."""
        last, by_kind = len(load.compute_s) - 1, load.by_kind
        return [
            by_kind[kind][unit] + (load.overhead_s if unit == last else 0.0)
            for kind, unit in self.kinds
        ]


Programs = dict[tuple[object, ...], _Program]


def _program(
    transfers: Transfers, on_host: frozenset[int], counts: Sequence[int], units: frozenset[int]
) -> _Program:
    sizes, ring_bytes = transfers.upload_bytes, transfers.device_ring_bytes
    stages = stages_of(counts, on_host, sizes, ring_bytes, units)
    numbers: dict[tuple[Kind, int], int] = {}
    awaited, steps = {*sizes} - units, list[_Step]()
    for place, kind, unit, micro_batch in _moves(stages, counts, on_host, {*awaited}):
        arrives = place == _GPU and unit in awaited
        if arrives:
            awaited.remove(unit)
        number = -1 if place == _LEAVES else numbers.setdefault((kind, unit), len(numbers))
        steps.append((place, unit, micro_batch, number, arrives))
    return _Program(steps, [*numbers])


_Move = tuple[int, Kind, int, int]  # where, what, of which unit and micro-batch


def _moves(
    stages: Sequence[Sequence[Piece]],
    counts: Sequence[int],
    on_host: frozenset[int],
    uploads: set[int],
) -> Iterator[_Move]:
    """What `DeviceSweepSchedule.computes` yields, but for the download at the end."""
    away: dict[int, int] = {}  # by micro-batch, the unit that the CPU computed last
    unit_before = 0
    for stage in stages:
        count = counts[stage[0].unit]
        alike = counts[unit_before] == count
        for micro_batch, (unit, kind) in itertools.product(range(count), stage):
            if kind == "in place":
                if micro_batch not in away:
                    yield _DOWN, "download_hidden", unit, micro_batch
                yield _CPU, "compute", unit, micro_batch
                away[micro_batch] = unit
                continue
            wanted = [micro_batch] if alike else range(counts[unit_before])
            for number in [it for it in wanted if it in away]:
                yield _UP, "upload_hidden", away.pop(number), number
            yield from _on_device(kind, unit, micro_batch, attends=unit in on_host)
            if kind == "compute" and micro_batch == count - 1 and unit in uploads:
                yield _LEAVES, "release", unit, 0
        unit_before = stage[-1].unit


def _on_device(
    kind: Literal["project", "compute"], unit: int, micro_batch: int, attends: bool
) -> Iterator[_Move]:
    """A task of the device, with those that surround it where the CPU attends."""
    if attends and kind == "compute":
        yield _UP, "return_attended", unit, micro_batch
    yield _GPU, kind, unit, micro_batch
    if attends and kind == "project":
        yield _DOWN, "send_qkv", unit, micro_batch
        yield _CPU, "attend", unit, micro_batch


class _InPlaceClocks(Clocks):
    """The same clocks, for any tasks of a sweep."""

    def replay(self, load: DeviceSweepLoad, program: _Program) -> float:
        """The end of a sweep with the engine's overhead."""
        seconds = program.seconds(load)
        device_s, down_s, cpu_s, up_s = self._device_s, self._down_s, self._cpu_s, self._up_s
        rows_s: dict[int, float] = {}  # by micro-batch, when link or CPU had done with it
        for place, unit, micro_batch, kind, arrives in program.steps:  # no calls of `max`: slow
            if place == _GPU:
                if arrives and (ready_s := self._upload(unit, load)) > device_s:
                    device_s = ready_s
                device_s += seconds[kind]
            elif place == _DOWN:
                down_s = (device_s if device_s > down_s else down_s) + seconds[kind]
                rows_s[micro_batch] = down_s
            elif place == _CPU:
                ready_s = rows_s[micro_batch]
                cpu_s = (ready_s if ready_s > cpu_s else cpu_s) + seconds[kind]
                rows_s[micro_batch] = cpu_s
            elif place == _UP:
                ready_s = rows_s[micro_batch] + load.wait_s
                up_s = (ready_s if ready_s > up_s else up_s) + seconds[kind]
                device_s = up_s if up_s > device_s else device_s
            else:
                self._left_device_s.append(device_s)
        self._device_s, self._down_s, self._cpu_s, self._up_s = device_s, down_s, cpu_s, up_s
        return device_s
