"""Measures in a fraction of a second what the first plan needs: disk, memory and product rates.

Nothing here allocates more than the buffer it is given a size for, and that is freed again.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from lm_offload.kernels.base import Kernels
from lm_offload.plan import MachineRates
from lm_offload.storage.direct_file import DirectFile
from lm_offload.units import MIB, PAGE_BYTES, align_down

PROBE_BYTES = 64 * MIB  # beyond most caches
READ_OPTIONS = ((8 * MIB, 2), (4 * MIB, 4), (1 * MIB, 4))  # block size, blocks in flight
_CLEARLY_BETTER = 1.3  # the first option stays unless another beats it by this factor


def measure_rates(file: DirectFile, kernels: Kernels, buffer_bytes: int) -> MachineRates:
    """Rates of the disk below `file`, of memory, and of a matrix product of 64 rows."""
    size_bytes = align_down(min(PROBE_BYTES, buffer_bytes, file.size_bytes))
    size_bytes = max(size_bytes, PAGE_BYTES)
    buffer = mmap.mmap(-1, size_bytes)
    words = torch.frombuffer(buffer, dtype=torch.float32).fill_(1)  # first touch is slow, not timed
    disk_rate, block_bytes, concurrency = _best_read(file, memoryview(buffer))
    return MachineRates(
        disk_read_bytes_per_s=disk_rate,
        memory_read_bytes_per_s=_memory_rate(words),
        matmul_flops=_matmul_flops(kernels),
        read_block_bytes=block_bytes,
        read_concurrency=concurrency,
    )


def _memory_rate(words: Tensor) -> float:
    seconds = _best_of(3, lambda: words.sum())
    return words.nbytes / seconds


def _best_read(file: DirectFile, memory: memoryview) -> tuple[float, int, int]:
    best = (0.0, *READ_OPTIONS[0])
    for index, (block_bytes, concurrency) in enumerate(READ_OPTIONS):
        start = index * len(memory) if (index + 1) * len(memory) <= file.size_bytes else 0
        rate = _read_rate(file, memory, align_down(start), block_bytes, concurrency)
        if rate > best[0] * (_CLEARLY_BETTER if index else 1):
            best = (rate, block_bytes, concurrency)
    return best


def _read_rate(
    file: DirectFile, memory: memoryview, start: int, block_bytes: int, concurrency: int
) -> float:
    def read(offset: int) -> int:
        return file.read_into(memory[offset : offset + block_bytes], start + offset)

    with ThreadPoolExecutor(concurrency) as pool:
        start_s = time.perf_counter()
        done_bytes = sum(pool.map(read, range(0, len(memory), block_bytes)))
        return done_bytes / (time.perf_counter() - start_s)


def _matmul_flops(kernels: Kernels) -> float:
    rows, size = 64, 512
    x, out = torch.ones(rows, size), torch.empty(rows, size)
    weight = torch.ones(size, size, dtype=torch.bfloat16)
    return 2 * rows * size * size / _best_of(5, lambda: kernels.linear(x, weight, out))


def _best_of(count: int, work: Callable[[], object]) -> float:
    """Seconds of the fastest of `count` runs."""
    seconds = []
    for _ in range(count):
        start_s = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start_s)
    return min(seconds)
