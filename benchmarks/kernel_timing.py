"""Timing operations in turns: what is compared runs within milliseconds of one another.

A shared machine changes its pace by tens of percent within seconds. A round therefore runs every
operation once, and ratios are taken by round.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lm_offload.kernels.memory import read_memory
from lm_offload.storage.arena import MemoryTier

LEAST_STREAMED_BYTES = 256 << 20
TIMES_CACHE = 3  # as much as the largest cache, so that hardly anything is still in it
READ_CHUNK_BYTES = 512 << 10  # `read_memory` leaves out what is behind the last whole one
MIN_READ_CHUNKS = 8
MIN_ROUNDS = 5
SETTLE_S = 0.02  # until threads of torch, which spin after their work, have gone to sleep
WARM_S = 0.01  # until cores that were idle meanwhile are as fast as others


def largest_cache_bytes(folder: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> int:
    """The size of the first core's largest cache; zero where the system does not say."""
    sizes = [path.read_text().strip() for path in folder.glob("index*/size")]
    return max((int(size[:-1]) << 10 for size in sizes if size[:-1].isdigit()), default=0)


# What weights and caches take together, so that they come from memory.
STREAMED_BYTES = max(LEAST_STREAMED_BYTES, TIMES_CACHE * largest_cache_bytes())

Work = Callable[[], object]
Seconds = dict[str, list[float]]  # by work, in the order of the rounds


@dataclass(frozen=True)
class Ceilings:
    """What this machine can do: bytes read and float32 operations of torch, per second."""

    read_bytes_per_s: float
    sgemm_flops_per_s: float


def rounds_s(works: Mapping[str, Work], budget_s: float, least_rounds: int = MIN_ROUNDS) -> Seconds:
    """Times of all works in turn until the budget is spent, after a round that is not counted."""
    for work in works.values():
        work()
    times: Seconds = {name: [] for name in works}
    end_s, count = time.perf_counter() + budget_s, 0
    while count < least_rounds or time.perf_counter() < end_s:
        for name, work in works.items():
            start_s = time.perf_counter()
            work()
            times[name].append(time.perf_counter() - start_s)
        count += 1
    return times


def median_s(work: Work, budget_s: float) -> float:
    """The median time of one work on its own."""
    return statistics.median(rounds_s({"work": work}, budget_s)["work"])


def on_each(run: Callable[[Any], object], members: Iterable[Any]) -> Work:
    """A work that takes the next member at each call."""
    turns = cycle(members)
    return lambda: run(next(turns))


class Reading:
    """Reads memory in pieces of about `size_bytes`, half a turn away from `on_each` over it."""

    def __init__(self, memory: Tensor, size_bytes: int, threads: int) -> None:
        self.size_bytes = max(size_bytes // READ_CHUNK_BYTES, MIN_READ_CHUNKS) * READ_CHUNK_BYTES
        pieces = torch.split(memory.flatten().view(torch.uint8), self.size_bytes)
        whole = [piece for piece in pieces if piece.nbytes == self.size_bytes]
        half = len(whole) // 2
        self.work = on_each(partial(read_memory, threads=threads), [*whole[half:], *whole[:half]])

    def rates(self, times_s: Sequence[float]) -> list[float]:
        """Bytes per second in each round."""
        return [self.size_bytes / time_s for time_s in times_s]


def settled(work: Work) -> Work:
    """What comes before operations of another pool of threads: a pause, then `work` for a while.

    A thread that is woken while another one spins on its core waits for milliseconds.
    """

    def settle() -> None:
        time.sleep(SETTLE_S)
        end_s = time.perf_counter() + WARM_S
        while time.perf_counter() < end_s:
            work()

    return settle


def streamed_copies(data: Tensor) -> Tensor:
    """[copies, *shape]: as many as no cache holds, in huge pages as an engine's weights."""
    count = max(2, STREAMED_BYTES // data.nbytes)
    memory = MemoryTier("copies", count * data.nbytes).allocate("copies", count * data.nbytes)
    return memory.view(0, data.dtype, (count, *data.shape)).copy_(data)


def measure_ceilings(threads: int, budget_s: float) -> Ceilings:
    """Medians of reading 32 MiB from memory and of torch's product of 512 x 2048 x 2048."""
    torch.set_num_threads(threads)
    read = Reading(streamed_copies(torch.ones(32 << 20, dtype=torch.uint8)), 32 << 20, threads)
    read_s = median_s(read.work, budget_s)
    a, b = torch.randn(512, 2048), torch.randn(2048, 2048)
    product_s = median_s(partial(torch.mm, a, b.T, out=torch.empty(512, 2048)), budget_s)
    return Ceilings(read.size_bytes / read_s, 2 * 512 * 2048 * 2048 / product_s)
