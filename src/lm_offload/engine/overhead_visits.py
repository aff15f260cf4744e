"""Sweeps of engines whose kernels have nothing to do, timed at several places of a calibration.

The pace of a shared machine moves: what the engine takes at one moment may be 1.8 times what it
takes a minute later. So a long calibration is interrupted between its stages.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from statistics import median
from typing import TypeVar

import torch

from lm_offload.engine.empty_sweeps import (
    Case,
    Samples,
    Turn,
    run_sweeps_s,
    sampled_sweeps_s,
)
from lm_offload.engine.memory_traffic import Traffic
from lm_offload.engine.prompt_cost import PromptCosts, prompt_costs, sampled_prompts_s
from lm_offload.hardware.curve import Curve
from lm_offload.hardware.link import Link
from lm_offload.hardware.processor import SMALL_TASK_BYTES, Processor
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.hardware.timing import capped_mean
from lm_offload.hardware.visits import Report, spread_over
from lm_offload.kernels.base import Kernels
from lm_offload.units import GIB, MIB

ARENA_BYTES = 64 * MIB  # at most, to be read one part after the other
LEAST_SWEEPS = 12  # turns of one visit
PROMPTS_FRAC = 2 / 3  # turns of prompts, of those of sweeps
SMALL_UNITS = Traffic(SMALL_TASK_BYTES, 32 * MIB, ARENA_BYTES)

Key = TypeVar("Key")


class Visits:
    """Collects what so many visits see, the last of which is yet to be made when all else is done.

    `turns` of sweeps are taken in a circle, `sweeps` of them in all visits together, and a run of
    each case of `runs` in each; `memory_bytes` bound what is read between tasks.
    """

    def __init__(
        self,
        turns: tuple[Turn, ...],
        runs: Turn,
        kernels: Kernels,
        memory_bytes: int,
        count: int = 1,
        sweeps: int = LEAST_SWEEPS,
    ) -> None:
        self._turns = turns
        self._runs = runs
        self._kernels = kernels
        self._memory_bytes = min(ARENA_BYTES, memory_bytes)
        self._count = count
        self._each = max(sweeps // count, LEAST_SWEEPS)
        self._sweeps: Samples = defaultdict(list)
        self._prompts: dict[Case, list[float]] = defaultdict(list)

    def between(self, report: Report) -> Report:
        """`report`, and visits before stages, in equal parts of the planned seconds."""
        return spread_over(report, self.visit, self._count - 1)

    def visit(self) -> None:
        """Time some sweeps of each kind; torch has as many threads afterwards as before."""
        threads = torch.get_num_threads()
        machine = _any_machine(self._kernels.threads), self._kernels, self._memory_bytes
        _extend(self._sweeps, sampled_sweeps_s(self._turns, self._each, *machine))
        for case, traffic in self._runs:
            run_s = run_sweeps_s(case, SMALL_UNITS, traffic, *machine)
            self._sweeps[case, traffic].append(capped_mean(run_s))
        prompts = round(PROMPTS_FRAC * self._each)
        _extend(self._prompts, sampled_prompts_s(prompts, *machine, SMALL_UNITS))
        torch.set_num_threads(threads)

    @property
    def sweeps_s(self) -> dict[tuple[Case, Traffic], float]:
        """The typical sweep of each case and traffic; of runs the mean, as they are sums."""
        return {key: median(seconds) for key, seconds in self._sweeps.items()}

    @property
    def prompt_costs(self) -> PromptCosts:
        """Of a sweep for each row of a prompt, and for each sequence that begins in it."""
        return prompt_costs(self._prompts)


def _extend(known: dict[Key, list[float]], more: Mapping[Key, list[float]]) -> None:
    for key, seconds in more.items():
        known[key] += seconds


def _any_machine(threads: int) -> HardwareProfile:
    """For plans whose sizes are given and whose weights are all in memory, whatever they take."""
    cpu = Processor(threads, 16 * GIB, memory_bytes_per_s=1e10, peak_flops=1e11)
    disk = Link(Curve((1.0,), (1e9,)), block_bytes=MIB)
    return HardwareProfile("any", "any", cpu, 16 * GIB, disk, disk)
