"""Slices of the machine's pace, taken between and within what is measured.

A product of one row tells the memory's pace, one of many rows the cores', both in the format of the
weights; one of many rows with weights from the cache tells that of all that computes there. One row
from the cache would not: it is most of all a start, which takes another time among other work.
It is timed apart, after a product with each matrix, as in the calibration: in turns with those from
memory, which push its weights out of a cache of 32 MiB, it took 4 to 12 % longer.
Reads of the file that is streamed, in its blocks, tell the disk's: of another file they differ by
up to 40 %, and large blocks of a file that a host keeps are read faster while small ones are not.
What moves within a tenth of a second is noise that no slice can tell of a run beside it, so a pace
is that of the median of several slices, of which one that met a stall does not count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.machine_pace import FEW_ROWS, MANY_ROWS, Pace
from lm_offload.hardware.disk_reader import RING_UNITS, DiskReader, Way
from lm_offload.hardware.memory_probe import probe_memory
from lm_offload.hardware.product_probe import matrices, settled_s
from lm_offload.hardware.product_rates import CACHED_SIZE, MEMORY_SIZE
from lm_offload.hardware.product_work import product_work
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.hardware.timing import typical_s
from lm_offload.kernels.base import Kernels
from lm_offload.kernels.resolve import resolve_kernels
from lm_offload.planner.places.host_placement import readers_of
from lm_offload.quant.format import Format
from lm_offload.storage.blocks import block_bytes_of
from lm_offload.storage.direct_file import DirectFile
from lm_offload.units import GIB, MIB

if TYPE_CHECKING:
    from lm_offload.kernels.base import Weight

PRODUCTS_S = 0.06  # of a slice, with weights from memory
CACHED_S = 0.02  # the same, from the cache
DISK_S = 0.05
FIRST_READ_S = 0.3  # of what the disk's slices read again
READ_MEMORY_BYTES = 32 * MIB
CACHED_BYTES = 4 * MIB
MOST_RATIO = 1.5  # of the paces on both sides of a steady run


class Slice(NamedTuple):
    """Seconds of one product, by rows and where the weights lie, and of a byte from the disk.

    `disk_byte_s` is None where the disk was not asked, as it was at work for a sweep.
    """

    few_rows_s: float
    many_rows_s: float
    cached_many_rows_s: float
    disk_byte_s: float | None


class _Products(NamedTuple):
    """Of one format, by rows with weights from memory; of many rows with those from the cache."""

    works: Mapping[int, Callable[[], None]]
    cached: Callable[[], None]
    weights: Sequence[Weight]  # of the latter

    def seconds(self, kernels: Kernels) -> tuple[float, float, float]:
        """Of few and many rows, and of many with weights from the cache, now."""
        seconds = dict[int, float]()
        while len(seconds) < len(self.works):  # a stall leaves no time for all
            seconds = typical_s(self.works, PRODUCTS_S)
        cached_s = settled_s(self.cached, kernels, self.weights, CACHED_S)
        return seconds[FEW_ROWS], seconds[MANY_ROWS], cached_s


class PaceMeter:
    """Holds the matrices and the file that slices are measured with."""

    def __init__(
        self, profile: HardwareProfile, threads: int, file: Path, formats: Iterable[Format]
    ) -> None:
        self._profile = profile
        self._kernels = resolve_kernels(threads)
        self._works = {format: self._products(format) for format in formats}
        self._memory = probe_memory(READ_MEMORY_BYTES)
        self._opened = ExitStack()
        self.read_from(file, READ_MEMORY_BYTES)

    def read_from(self, file: Path, unit_bytes: int) -> None:
        """The file that slices read from now on, in the blocks of units of this size."""
        link = self._profile.disk_read
        readers = readers_of(link, unit_bytes)
        self._block_bytes = block_bytes_of(unit_bytes, link.block_bytes, readers)
        is_small = self._block_bytes < link.block_bytes
        ring_bytes = RING_UNITS * readers * self._block_bytes if is_small else None
        self._opened.close()
        direct = self._opened.enter_context(closing(DirectFile(file)))
        reader = self._opened.enter_context(DiskReader(direct, self._memory.buffer))
        reader.read_first(Way(link.block_bytes, link.concurrency), FIRST_READ_S)
        way = Way(self._block_bytes, readers)
        self._byte_s = reader.sampler(way, DISK_S, ring_bytes)

    def _products(self, format: Format) -> _Products:
        large = matrices(probe_memory(GIB), format, MEMORY_SIZE)
        small = matrices(probe_memory(CACHED_BYTES), format, CACHED_SIZE)
        works = {rows: product_work(self._kernels, large, rows) for rows in (FEW_ROWS, MANY_ROWS)}
        return _Products(works, product_work(self._kernels, small, MANY_ROWS), small)

    def slice(self, format: Format, with_disk: bool = True) -> Slice:
        """This moment's."""
        products = self._works[format].seconds(self._kernels)
        return Slice(*products, self._byte_s() if with_disk else None)

    def pace(self, format: Format, slices: Sequence[Slice]) -> Pace:
        """Of some slices in a format, at least one of them with the disk."""
        cpu, link = self._profile.cpu, self._profile.disk_read
        expected = [
            cpu.product_s(format, rows, size**2, cached)
            for rows, size, cached in (
                (FEW_ROWS, MEMORY_SIZE, False),
                (MANY_ROWS, MEMORY_SIZE, False),
                (MANY_ROWS, CACHED_SIZE, True),
            )
        ]
        seconds = typical_slice(slices)
        memory, cores, cached = (
            profiled / measured for profiled, measured in zip(expected, seconds[:-1], strict=True)
        )
        disk = 1 / (seconds[-1] * link.bytes_per_s.at(self._block_bytes))
        return Pace(memory, cores, cached, disk)


def typical_slice(slices: Iterable[Slice]) -> list[float]:
    """The median of each of its figures."""
    columns = zip(*slices, strict=True)
    return [median(value for value in column if value is not None) for column in columns]


def is_steady(before: Iterable[Slice], after: Iterable[Slice]) -> bool:
    """Whether the machine was about as fast after a run as before it."""
    pairs = zip(typical_slice(before), typical_slice(after), strict=True)
    return all(1 / MOST_RATIO <= first / second <= MOST_RATIO for first, second in pairs)
