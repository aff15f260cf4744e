"""Timing one operation: medians of many runs, and the ceilings of the machine beside them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from lm_offload.kernels.memory import read_memory

STREAMED_BYTES = 256 << 20  # far more than any cache, so that weights come from memory
MIN_RUNS = 5


@dataclass(frozen=True)
class Ceilings:
    """What this machine can do: bytes read and float32 operations of torch, per second."""

    read_bytes_per_s: float
    sgemm_flops_per_s: float


@dataclass(frozen=True)
class Result:
    """The time of one operation, and its share of what the ceilings allow."""

    operation: str
    shape: str
    time_s: float
    gbytes_per_s: float
    gflops_per_s: float
    ceiling_frac: float


def run_times_s(runs: list[Callable[[], object]], budget_s: float) -> list[float]:
    """The times of runs that are taken in turns until the budget is spent, after a first one."""
    runs[-1]()
    times: list[float] = []
    end = time.perf_counter() + budget_s
    while len(times) < MIN_RUNS or time.perf_counter() < end:
        start = time.perf_counter()
        runs[len(times) % len(runs)]()
        times.append(time.perf_counter() - start)
    return times


def median_s(runs: list[Callable[[], object]], budget_s: float) -> float:
    """The median of `run_times_s`."""
    return statistics.median(run_times_s(runs, budget_s))


def measure_ceilings(threads: int, budget_s: float) -> Ceilings:
    """The best of many: reading a large buffer, and torch's product of 512 x 2048 x 2048."""
    torch.set_num_threads(threads)
    parts = list(torch.ones(STREAMED_BYTES // 4).chunk(8))
    read_s = min(run_times_s([partial(read_memory, part, threads) for part in parts], budget_s))
    a, b = torch.randn(512, 2048), torch.randn(2048, 2048)
    out = torch.empty(512, 2048)
    product_s = min(run_times_s([partial(torch.mm, a, b.T, out=out)], budget_s))
    return Ceilings(parts[0].nbytes / read_s, 2 * 512 * 2048 * 2048 / product_s)


def result(
    operation: str, shape: str, time_s: float, nbytes: float, flops: float, ceilings: Ceilings
) -> Result:
    """A row; the ceiling is whichever of memory and arithmetic takes longer."""
    bound_s = max(nbytes / ceilings.read_bytes_per_s, flops / ceilings.sgemm_flops_per_s)
    return Result(
        operation, shape, time_s, nbytes / time_s / 1e9, flops / time_s / 1e9, bound_s / time_s
    )
