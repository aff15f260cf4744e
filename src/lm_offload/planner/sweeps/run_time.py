"""Seconds of a whole run: its sweeps timed at a few contexts and summed over their growth."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import accumulate, islice
from typing import NamedTuple, TypeVar

from lm_offload.plan import Figures
from lm_offload.planner.costs.sweep_shape import SweepGroup, SweepShape
from lm_offload.planner.sweeps.sweep_time import SweepTimes
from lm_offload.step_time import StepTime, mean_step

LEADING = 2  # sweeps of a long group that are timed alone: they use up what was read ahead
SPANS = 3  # of the others, each timed at its middle
SIMULATED_SWEEPS = 16  # the sweeps of a longer run are then taken as steady

Found = TypeVar("Found")


class Sample(NamedTuple):
    """A sweep that stands for `weight` sweeps of its group."""

    shape: SweepShape
    weight: float


@dataclass(frozen=True)
class TimedGroup:
    """A group of sweeps with the mean of their times."""

    group: SweepGroup
    mean: StepTime

    @property
    def seconds(self) -> float:
        """Of all its sweeps."""
        return self.group.count * self.mean.total_s


@dataclass(frozen=True)
class RunTime:
    """A run, group after group of its sweeps; so many `waves` alike, one after the other."""

    groups: tuple[TimedGroup, ...]
    waves: int = 1

    @cached_property
    def _ends_s(self) -> list[float]:
        return list(accumulate(timed.seconds for timed in self.groups))

    @property
    def run_s(self) -> float:
        """From the first sweep to the last token."""
        return self.waves * self._ends_s[-1]

    @property
    def mean_finish_s(self) -> float:
        """Until a request is complete, the mean over all."""
        ends = list(zip(self.groups, self._ends_s, strict=True))
        finished = sum(timed.group.finished for timed in self.groups)
        in_wave_s = sum(end_s * timed.group.finished for timed, end_s in ends) / finished
        return in_wave_s + self._mean_start_s

    @property
    def _mean_start_s(self) -> float:
        """Of a wave, which is the start of the median one, too."""
        return (self.waves - 1) / 2 * self._ends_s[-1]

    def figures(self, peak_bytes: Mapping[str, int]) -> Figures:
        """The run as a benchmark would show it."""
        prefill = [timed for timed in self.groups if timed.group.prompt_rows]
        decode = [timed for timed in self.groups if not timed.group.prompt_rows]
        prompt_rows = sum(timed.group.count * timed.group.prompt_rows for timed in prefill)
        decode_rows = sum(timed.group.count * timed.group.shape.rows for timed in decode)
        decode_s = sum(timed.seconds for timed in decode)
        return Figures(
            prefill_tokens_per_s=prompt_rows / sum(timed.seconds for timed in prefill),
            decode_tokens_per_s=decode_rows / decode_s if decode else 0.0,
            ttft_s=self._median_first_s(),
            tpot_s=_mean_of(decode).total_s if decode else None,
            run_s=self.run_s,
            step_s={"prefill": _mean_of(prefill), "decode": _mean_of(decode)},
            peak_bytes=peak_bytes,
        )

    def _median_first_s(self) -> float:
        ends = zip(self.groups, self._ends_s, strict=True)
        in_wave_s = statistics.median(
            end_s for timed, end_s in ends for _ in range(timed.group.first_tokens)
        )
        return in_wave_s + self._mean_start_s


def time_run(groups: Iterable[SweepGroup], times: SweepTimes) -> RunTime:
    """Every group with the mean time of its sweeps: simulated at first, then steady."""
    samples = [(group, list(_samples(group))) for group in groups]
    shapes = [sample.shape for _, taken in samples for sample in taken]
    steps = iter(_step_times(shapes, times))
    timed = []
    for group, taken in samples:
        weights = [sample.weight for sample in taken]
        mean = mean_step(zip(islice(steps, len(taken)), weights, strict=True))
        timed.append(TimedGroup(group, mean))
    return RunTime(tuple(timed))


def _step_times(shapes: Sequence[SweepShape], times: SweepTimes) -> Iterator[StepTime]:
    load_of = _once(times.load)
    loads = [load_of(shape) for shape in shapes[:SIMULATED_SWEEPS]]
    seconds = times.simulated_s(loads)
    yield from (load.step_time(total_s) for load, total_s in zip(loads, seconds, strict=True))
    yield from map(_once(partial(_later, times)), shapes[SIMULATED_SWEEPS:])


def _once(timed: Callable[[SweepShape], Found]) -> Callable[[SweepShape], Found]:
    """The same, computed once for shapes that are alike: prompts are computed in many."""
    known: dict[tuple[SweepShape, int], Found] = {}

    def found(shape: SweepShape) -> Found:
        key = shape, shape.kept_blocks
        if key not in known:
            known[key] = timed(shape)
        return known[key]

    return found


def _later(times: SweepTimes, shape: SweepShape) -> StepTime:
    """One of many sweeps alike; sums alone would let reads run beside units that they wait for."""
    return times.waiting(shape) if times.reads_wait else times.steady(shape)


def _samples(group: SweepGroup) -> Iterator[Sample]:
    """All sweeps of a short group; of a long one the first, then the middles of equal spans."""
    single = group.count if group.count <= LEADING + SPANS else LEADING
    yield from (Sample(group.shape.later(sweep), 1) for sweep in range(single))
    span = (group.count - single) / SPANS
    for index in range(SPANS if span else 0):
        yield Sample(group.shape.later(single + int((index + 0.5) * span)), span)


def _mean_of(groups: Iterable[TimedGroup]) -> StepTime:
    return mean_step((timed.mean, timed.group.count) for timed in groups)
