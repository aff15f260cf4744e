"""Timing in a process that is not alone: samples taken in turns, and what is typical of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeVar

SAMPLE_S = 2e-3  # calls shorter than this are timed several at once
MOST_CALLS = 256
FEW_SAMPLES = 5  # that a short first call may take
MOST_ROUNDS = 100
FAR_OFF = 3.0  # times the median: a disturbance that no run is to be predicted with

Key = TypeVar("Key")


class Deadline:
    """A moment in time, `seconds` from now."""

    def __init__(self, seconds: float) -> None:
        self._end_s = time.perf_counter() + seconds

    @property
    def left_s(self) -> float:
        """Seconds until then, never negative."""
        return max(self._end_s - time.perf_counter(), 0.0)

    @property
    def passed(self) -> bool:
        """Whether it is over."""
        return self.left_s == 0.0


def typical_s(works: Mapping[Key, Callable[[], object]], budget_s: float) -> dict[Key, float]:
    """Typical seconds of one call of each work, in about `budget_s` together.

    Works come cheapest first: those that the budget does not reach are left out, all but the
    first. A first call touches memory and starts threads; it counts only where it is the last.
    """
    deadline = Deadline(budget_s)
    first_s = _first_calls_s(works, deadline)
    samplers = {key: _sampler(works[key], call_s) for key, call_s in first_s.items()}
    return typical(samplers, deadline, first_s)


def typical_among_s(
    works: Mapping[Key, Callable[[], object]], other: Callable[[], object], budget_s: float
) -> dict[Key, float]:
    """The same of calls each of which follows a call of `other`, whose seconds do not count.

    So they find caches and threads as a sweep leaves them.
    """
    deadline = Deadline(budget_s)
    other_s, first_s = _first_s(other), _first_calls_s(works, deadline)
    samplers = {
        key: _sampler_among(works[key], other, call_s + other_s) for key, call_s in first_s.items()
    }
    return typical(samplers, deadline, first_s)


def _first_calls_s(
    works: Mapping[Key, Callable[[], object]], deadline: Deadline
) -> dict[Key, float]:
    """Of those that there is time for, the first in any case."""
    first_s: dict[Key, float] = {}
    for key, work in works.items():
        if first_s and deadline.passed:
            break
        first_s[key] = max(_first_s(work), 1e-9)
    return first_s


def typical(
    samplers: Mapping[Key, Callable[[], float]],
    deadline: Deadline,
    known: Mapping[Key, float] = MappingProxyType({}),
) -> dict[Key, float]:
    """The mean of the samples of each, as many as there is time for.

    Samplers run in turns, so that a disturbance falls on all of them. A run is a sum of calls and
    takes their mean, slow ones included; only a sample that is far off counts as less than it is.
    Without a known value a sampler runs once at least.
    """
    samples: dict[Key, list[float]] = {key: [] for key in samplers}
    for turn in range(MOST_ROUNDS):
        for key, sampler in samplers.items():
            if not deadline.passed or (turn == 0 and key not in known):
                samples[key].append(sampler())
    return {key: capped_mean(values) if values else known[key] for key, values in samples.items()}


def capped_mean(values: Sequence[float]) -> float:
    """The mean, of which no value counts as more than `FAR_OFF` times the median."""
    most = FAR_OFF * statistics.median(values)
    return statistics.fmean(min(value, most) for value in values)


def _calls_of(call_s: float) -> int:
    """Of one sample."""
    return min(max(round(SAMPLE_S / call_s), 1), MOST_CALLS)


def _sampler_among(
    work: Callable[[], object], other: Callable[[], object], both_s: float
) -> Callable[[], float]:
    count = _calls_of(both_s)

    def sample() -> float:
        seconds = 0.0
        for _ in range(count):
            other()
            seconds += _seconds_of(work, 1)
        return seconds / count

    return sample


def _sampler(work: Callable[[], object], call_s: float) -> Callable[[], float]:
    """One sample; the call before it finds caches and threads as another work left them."""
    count = _calls_of(call_s)

    def sample() -> float:
        if count > 1:
            work()
        return _seconds_of(work, count) / count

    return sample


def _first_s(work: Callable[[], object]) -> float:
    """Of a short call the better of two: how many make a sample depends on it."""
    once_s = _seconds_of(work, 1)
    return min(once_s, _seconds_of(work, 1)) if once_s < FEW_SAMPLES * SAMPLE_S else once_s


def _seconds_of(work: Callable[[], object], count: int) -> float:
    start_s = time.perf_counter()
    for _ in range(count):
        work()
    return time.perf_counter() - start_s
