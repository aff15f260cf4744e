"""Reads a file as the engine does, to see how fast that is: blocks of a run, several in flight."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import NamedTuple

from lm_offload.hardware.timing import Deadline
from lm_offload.storage.blocks import Block, block_bytes_of
from lm_offload.storage.direct_file import DirectFile

MOST_DEPTH = 8
SAMPLE_S = 0.03  # of reading, for one rate
RING_UNITS = 2  # that a staging ring holds where it can


class Way(NamedTuple):
    """How to read: the size of blocks, and how many are in flight."""

    block_bytes: int
    depth: int


class Done(NamedTuple):
    """A block that was read."""

    at_s: float
    size_bytes: int


class DiskReader:
    """Reads `file` into page-aligned `memory`; the contents are of no interest.

    Weights are read again in every sweep. What lies below a disk (a hypervisor, a controller,
    memory of its own) may keep bytes, so that their first read is slower than all later ones:
    `read_first` says how fast that is, and samples read only what it has read. A small ring stays
    in the caches, which makes reads into it up to 1.4 times as fast: samples have a ring of the
    size that an engine would have.
    """

    def __init__(self, file: DirectFile, memory: memoryview) -> None:
        self.known_bytes = 0  # from the start of the file
        self._file = file
        self._memory = memory
        self._pool = ThreadPoolExecutor(MOST_DEPTH)

    def read_first(self, way: Way, seconds: float) -> float:
        """Bytes per second of reading the file from its start for some time."""
        start_s = time.perf_counter()
        ahead = self._blocks(way.block_bytes, self._file.size_bytes, len(self._memory))
        done = self._read(iter(ahead), way, seconds)
        self.known_bytes = sum(block.size_bytes for block in done)
        return self.known_bytes / (done[-1].at_s - start_s)

    def sampler(
        self, way: Way, seconds: float = SAMPLE_S, ring_bytes: int | None = None
    ) -> Callable[[], float]:
        """A function that gives seconds per byte, going on where its last sample ended.

        It reads into `ring_bytes`, or into all of the memory.
        """
        ring_bytes = ring_bytes or len(self._memory)
        endless = itertools.cycle(self._blocks(way.block_bytes, self.known_bytes, ring_bytes))
        return lambda: _byte_s(self._read(endless, way, seconds), way.depth)

    def burst_sampler(
        self, size_bytes: int, way: Way, memory: memoryview | None = None
    ) -> Callable[[], float]:
        """A function that gives seconds per byte of so many bytes that are read alone.

        Into `memory`, if it is given.
        """
        block_bytes = block_bytes_of(size_bytes, way.block_bytes, way.depth)
        ring_bytes = RING_UNITS * size_bytes
        blocks = self._blocks(block_bytes, self.known_bytes, ring_bytes, memory)
        endless = itertools.cycle(blocks)
        count = -(-size_bytes // block_bytes)
        readers = min(way.depth, count)  # no others are woken

        def sample() -> float:
            blocks = itertools.islice(endless, count)
            start_s = time.perf_counter()
            done = list(self._pool.map(lambda _: _read_all(blocks), range(readers)))
            return (max(one.at_s for one in done) - start_s) / sum(one.size_bytes for one in done)

        return sample

    def _blocks(
        self, block_bytes: int, stop: int, ring_bytes: int, memory: memoryview | None = None
    ) -> list[Block]:
        """The blocks of the file that begin before `stop`; they share the places of a ring."""
        memory = memory or self._memory
        block_bytes = min(block_bytes, len(memory))
        places = max(min(ring_bytes, len(memory)) // block_bytes, 1)
        return [
            Block(self._file, start, memory[index % places * block_bytes :][:block_bytes])
            for index, start in enumerate(range(0, stop, block_bytes))
        ]

    def _read(self, blocks: Iterator[Block], way: Way, seconds: float) -> list[Done]:
        """Blocks in the order in which they were done; at least two of each thread."""
        deadline = Deadline(seconds)
        done: list[Done] = []  # list.append and the next of an iterator are atomic

        def work(_: int) -> None:
            for count, block in enumerate(blocks, start=1):
                size_bytes = block.read()
                done.append(Done(time.perf_counter(), size_bytes))
                if count >= 2 and deadline.passed:
                    return

        list(self._pool.map(work, range(way.depth)))
        return sorted(done)

    def __enter__(self) -> DiskReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pool.shutdown()


def _read_all(blocks: Iterable[Block]) -> Done:
    """All of them as one; whoever waits for them goes on later."""
    size_bytes = sum(block.read() for block in blocks)
    return Done(time.perf_counter(), size_bytes)


def _byte_s(done: list[Done], depth: int) -> float:
    """Seconds per byte after the first blocks, which all start at once."""
    started, steady = done[:depth], done[depth:]
    seconds = max(steady[-1].at_s - started[-1].at_s, 1e-9)
    return seconds / sum(block.size_bytes for block in steady)
