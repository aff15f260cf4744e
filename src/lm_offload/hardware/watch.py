"""Notices that a stage of a calibration was disturbed, so that it can be measured once more.

Two signs tell it: what other processes take of the cores meanwhile, and a pulse, a short product on
all threads, which takes longer right before or after the stage than in the quietest moment so far.
The pulse also tells of neighbours on the same host, which no process list shows.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from lm_offload.hardware.memory_probe import probe_memory
from lm_offload.hardware.other_load import OtherLoad
from lm_offload.hardware.product_probe import PLAIN, matrices
from lm_offload.hardware.product_rates import CACHED_SIZE
from lm_offload.hardware.product_work import product_work
from lm_offload.hardware.timing import typical_s
from lm_offload.kernels.base import Kernels
from lm_offload.units import MIB

BUSY_FRAC = 0.1  # of the cores, at work for others: more than a system does by itself
LEAST_BUSY_S = 0.1  # of a core; less may be the ticks that systems count in
MOST_RATIO = 1.5  # of two pulses; a shared machine changes its pace by less all the time
PULSE_ROWS, PULSE_S = 64, 4e-3


class Load(Protocol):
    """What others do from some moment on."""

    @property
    def busy_frac(self) -> float:
        """The share of all cores that they used so far."""


@dataclass(frozen=True)
class Stage:
    """What was seen of one stage, in seconds; `busy_frac` of the cores were at work for others."""

    seconds: float
    busy_frac: float
    pulse_s: float  # the longer one of those before and after

    def disturbance(self, quiet_pulse_s: float) -> float:
        """Above 1 where it is to be measured again."""
        busy_s = self.busy_frac * self.seconds * (os.cpu_count() or 1)
        busy = self.busy_frac / BUSY_FRAC if busy_s >= LEAST_BUSY_S else 0.0
        return max(busy, self.pulse_s / quiet_pulse_s / MOST_RATIO)


class Watch:
    """Looks at one stage after the other; `pulse` says how long a pulse takes just now."""

    def __init__(
        self,
        pulse: Callable[[], float],
        load: Callable[[], Load] = OtherLoad,
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._pulse = pulse
        self._load = load
        self._now = now
        self._quiet_s = pulse()
        self._stages: list[Stage] = []
        self.begin()

    def begin(self) -> None:
        """A stage begins."""
        self._first_s = self._taken()
        self._others, self._start_s = self._load(), self._now()

    def end(self) -> Stage:
        """What was seen of it."""
        seconds, busy_frac = self._now() - self._start_s, self._others.busy_frac
        return Stage(seconds, busy_frac, max(self._first_s, self._taken()))

    def disturbance(self, stage: Stage) -> float:
        """Above 1 where it was disturbed, by what is known so far."""
        return stage.disturbance(self._quiet_s)

    def keep(self, stage: Stage) -> None:
        """What was measured in it counts."""
        self._stages.append(stage)

    @property
    def disturbed_frac(self) -> float:
        """The share of the time of all stages that count in which one was disturbed."""
        all_s = sum(stage.seconds for stage in self._stages)
        bad_s = sum(stage.seconds for stage in self._stages if self.disturbance(stage) > 1)
        return bad_s / all_s if all_s else 0.0

    def _taken(self) -> float:
        pulse_s = self._pulse()
        self._quiet_s = min(self._quiet_s, pulse_s)
        return pulse_s


def watch_with(kernels: Kernels) -> Watch:
    """With a product of many rows whose weights stay in the cache as the pulse."""
    weights = matrices(probe_memory(MIB), PLAIN, CACHED_SIZE)
    work = product_work(kernels, weights, PULSE_ROWS)
    return Watch(lambda: typical_s({None: work}, PULSE_S)[None])
