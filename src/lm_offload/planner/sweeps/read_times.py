"""Seconds of what is read from disk in a sweep: streamed units, and embedding rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lm_offload.hardware.link import Link
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.planner.costs.disk_cost import read_s
from lm_offload.planner.costs.gather_cost import GatherCost
from lm_offload.planner.costs.unit_cost import UnitCosts
from lm_offload.planner.lazy import lazy
from lm_offload.storage.blocks import block_bytes_of, reader_threads


@dataclass(frozen=True)
class ReadTimes:
    """One way to run a model, and what it reads; seconds are those that nothing else disturbs."""

    costs: UnitCosts
    profile: HardwareProfile
    streamed: frozenset[int]
    ring_bytes: int
    micro_batch_tokens: int
    rows_in_memory: bool  # embedding rows, which are read from disk otherwise
    read_block_bytes: int
    read_concurrency: int
    sampling_threads: int
    in_small_pages: float = 0.0  # the share of the ring

    @lazy
    def streamed_bytes(self) -> Mapping[int, int]:
        """What is read of which units, in order of use."""
        return self.costs.model.sizes_of(self.streamed)

    @property
    def in_flight_bytes(self) -> int:
        """Of blocks that are read at once, where units are not smaller."""
        return self.read_block_bytes * self.read_concurrency

    @lazy
    def reads_ahead(self) -> bool:
        """Whether the ring holds a unit that is read beside one that is computed."""
        return self.ring_bytes >= most_of_neighbours(self.streamed_bytes)

    @property
    def reads_wait(self) -> bool:
        """Whether a read has to wait until the unit before it was computed."""
        return bool(self.streamed) and not self.reads_ahead

    @lazy
    def _undisturbed_reads_s(self) -> dict[int, float]:
        """Of each unit."""
        seconds = {size: self._unit_read_s(size) for size in {*self.streamed_bytes.values()}}
        return {unit: seconds[size] for unit, size in self.streamed_bytes.items()}

    def _unit_read_s(self, size_bytes: int) -> float:
        """Behind other reads or, where the ring does not hold more, alone."""
        link, way = self.profile.disk_read, (self.read_block_bytes, self.read_concurrency)
        queued_s = self._slower_pages * unit_read_s(link, size_bytes, *way)
        return queued_s if self.reads_ahead else queued_s + self._idle_s(size_bytes)

    @lazy
    def _slower_pages(self) -> float:
        """How much longer a read takes, in the mean over the ring."""
        return 1.0 + self.in_small_pages * (1 / self.profile.disk_read.small_pages_frac - 1)

    @lazy
    def _longest_idle_s(self) -> float:
        return max(map(self._idle_s, self.streamed_bytes.values()), default=0.0)

    def _idle_s(self, size_bytes: int) -> float:
        """What the read of a unit takes more if the disk has nothing to do before it."""
        link, way = self.profile.disk_read, (self.read_block_bytes, self.read_concurrency)
        if link.burst_bytes_per_s is None:
            return link.request_s
        burst_s = size_bytes / link.burst_bytes_per_s.at(size_bytes)
        longer_s = self._slower_pages * (burst_s - unit_read_s(link, size_bytes, *way))
        return max(longer_s, link.request_s)

    @lazy
    def _undisturbed_disk_s(self) -> float:
        return sum(self._undisturbed_reads_s.values())

    @lazy
    def _weight_blocks(self) -> float:
        """Blocks of streamed units, which a sweep hands to the readers."""
        way = self.read_block_bytes, self.read_concurrency
        sizes = self.streamed_bytes.values()
        return sum(-(-size // block_bytes_of(size, *way)) for size in sizes)

    @lazy
    def _gather(self) -> GatherCost:
        largest_bytes = max(self.streamed_bytes.values(), default=0)
        queue = queue_bytes(largest_bytes, self.read_block_bytes, self.read_concurrency)
        return GatherCost(self.costs.model.config, self.profile.disk_read, queue)

    def _own_rows_s(self, rows: int) -> float:
        """To fetch rows of the embedding table from a disk that has nothing else to do."""
        return 0.0 if self.rows_in_memory else self._gather.own_s(rows, self.micro_batch_tokens)

    @property
    def _behind_s(self) -> float:
        """What the first of them waits at most for blocks that are in flight."""
        return 0.0 if self.rows_in_memory else self._gather.behind_s


def unit_read_s(link: Link, size_bytes: int, block_bytes: int, concurrency: int) -> float:
    """The read of one unit behind others."""
    return read_s(link, size_bytes, block_bytes_of(size_bytes, block_bytes, concurrency))


def queue_bytes(largest_bytes: int, block_bytes: int, concurrency: int) -> int:
    """The blocks in flight at once while units of at most this size are read."""
    readers = reader_threads(largest_bytes, block_bytes, concurrency)
    return block_bytes_of(largest_bytes, block_bytes, concurrency) * readers


def most_of_neighbours(size_bytes: Mapping[int, int]) -> int:
    """The most bytes of two that follow one another in sweep after sweep."""
    return max(_of_neighbours(size_bytes), default=0)


def least_of_neighbours(size_bytes: Mapping[int, int]) -> int:
    """The least bytes of two that follow one another in sweep after sweep."""
    return min(_of_neighbours(size_bytes), default=0)


def _of_neighbours(size_bytes: Mapping[int, int]) -> Iterator[int]:
    sizes = [*size_bytes.values()]
    return map(sum, zip(sizes, sizes[1:] + sizes[:1], strict=True))
