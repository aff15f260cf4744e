"""Memory: what probes work in, how large the cache before it is, and how fast it is read."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Event

import torch

from lm_offload.hardware.curve import Curve
from lm_offload.hardware.measured_work import thread_counts
from lm_offload.hardware.numa import interleaved_nodes
from lm_offload.hardware.timing import typical_s
from lm_offload.kernels.memory import read_memory
from lm_offload.storage.arena import Arena, MemoryTier
from lm_offload.units import GIB, MIB, align_down, parse_size

CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
UNKNOWN_CACHE_BYTES = 32 * MIB
# A part of what is read in turns is found in the cache: with twice its size products were 50 %
# faster than with models that are much larger, with three times 10 %, with six times not at all.
TIMES_CACHE = 6
FEWEST_TIMES = 4
MOST_BYTES = 4 * GIB
PIECE_BYTES = 16 * MIB  # touched at once: Ctrl-C is heard between two pieces


def last_level_cache_bytes(caches: Path = CACHES) -> int:
    """Bytes of the largest cache of a core; a common size where the system names none."""
    sizes = [parse_size(file.read_text().strip()) for file in caches.glob("index*/size")]
    return max(sizes, default=UNKNOWN_CACHE_BYTES)


def probe_memory(limit_bytes: int) -> Arena:
    """Touched memory of at most `limit_bytes` (but at least 1 MiB), beyond the cache if it may."""
    arena = mapped_memory(limit_bytes, TIMES_CACHE)
    _touch(arena, lambda: False)
    return arena


def mapped_memory(limit_bytes: int, times_cache: int) -> Arena:
    """The same, not touched yet, of so many times the size of the cache."""
    wanted_bytes = min(times_cache * last_level_cache_bytes(), MOST_BYTES)
    size_bytes = align_down(max(min(wanted_bytes, limit_bytes), MIB))
    return MemoryTier("probe", size_bytes, interleaved_nodes()).allocate("probes", size_bytes)


class Touching:
    """Touches memory beside other work, which takes seconds where a host has none at hand."""

    def __init__(self, arena: Arena) -> None:
        self._over = Event()
        self._pool = ThreadPoolExecutor(1)
        self._touch = partial(_touch, arena, self._over.is_set)
        self._touched: Future[None] | None = None

    def begin(self) -> None:
        """Go on with something else, that needs little of the cores."""
        self._touched = self._touched or self._pool.submit(self._touch)

    def wait(self) -> None:
        """Until all is touched."""
        self.begin()
        assert self._touched is not None
        self._touched.result()

    def close(self) -> None:
        """Stop soon, wherever it is."""
        self._over.set()
        self._pool.shutdown()


def _touch(arena: Arena, is_over: Callable[[], bool]) -> None:
    for start in range(0, arena.size_bytes, PIECE_BYTES):
        if is_over():
            return
        piece_bytes = min(PIECE_BYTES, arena.size_bytes - start)
        arena.view(start, torch.float32, (piece_bytes // 4,)).fill_(1.0)


def exceeds_cache(size_bytes: int) -> bool:
    """Whether rates measured in so many bytes are those of memory and not of the cache."""
    return size_bytes >= min(FEWEST_TIMES * last_level_cache_bytes(), MOST_BYTES)


def trim_heap() -> None:
    """Give back to the system what the C library keeps of freed memory, where it can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def measure_memory(arena: Arena, threads: int, budget_s: float) -> Curve:
    """Bytes per second of reading `arena`, by threads up to `threads`, which are known at least."""
    data = arena.view(0, torch.float32, (arena.size_bytes // 4,))
    counts = reversed(thread_counts(threads))
    works = {count: partial(read_memory, data, count) for count in counts}
    seconds = sorted(typical_s(works, budget_s).items())
    return Curve.through({count: arena.size_bytes / read_s for count, read_s in seconds})
