"""The link from disk to memory: rates by block size, and the way in which weights are read.

The way is chosen at once, and how many readers a small unit is cut for: to hand over a block and to
ask for it takes as long as some hundred kilobytes of it. What units of weights come at is seen in
visits, as the rate of a disk moves by tens of per cent within minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from lm_offload.hardware.curve import Curve
from lm_offload.hardware.disk_reader import RING_UNITS, DiskReader, Way
from lm_offload.hardware.link import Link
from lm_offload.hardware.timing import Deadline, typical
from lm_offload.hardware.visits import Visited
from lm_offload.storage.arena import small_pages
from lm_offload.storage.blocks import LEAST_BLOCK_BYTES
from lm_offload.units import KIB, MIB, PAGE_BYTES

FIRST_READ_FRAC = 0.25  # of the time
VISITS_FRAC = 0.25  # of the time
BURSTS = (256 * KIB, MIB, 4 * MIB, 16 * MIB)  # bytes of units that are read alone
FEW_FRAC = 0.03  # of the time, to see how many readers are enough for a small unit
SMALL_BYTES = MIB  # of such a unit
STREAM_BYTES = MIB  # weights are read in blocks of at least this size
STREAM_DEPTH = 2  # and with at least so many in flight: the disk must not wait for Python
CLEARLY_BETTER = 1.1  # fewer and larger blocks stay unless others beat them by this factor

PREFERRED = Way(8 * MIB, 2)
LATENCY = Way(PAGE_BYTES, 1)
FEW_WAYS = (
    *(PREFERRED, LATENCY, Way(4 * MIB, 4), Way(MIB, 4)),
    *(Way(256 * KIB, 8), Way(64 * KIB, 8), Way(PAGE_BYTES, 8)),
)
_SIZES = (8 * MIB, 4 * MIB, MIB, 256 * KIB, 64 * KIB, PAGE_BYTES)
_ALL = (Way(size, depth) for size in _SIZES for depth in (2, 4, 8, 1))
ALL_WAYS = tuple(dict.fromkeys((PREFERRED, LATENCY, *_ALL)))

_Sampler = Callable[[], float]  # seconds per byte
_Key = tuple[str, int]  # "blocks" of a size, or a "burst" of so many bytes, into "small pages" too


class DiskProbe:
    """Chooses how to read within `budget_s` less the time of `visits`, which are yet to be made.

    `ways` contain PREFERRED and LATENCY.
    """

    def __init__(
        self, reader: DiskReader, ways: tuple[Way, ...], budget_s: float, visits: int = 1
    ) -> None:
        deadline = Deadline(budget_s * (1 - VISITS_FRAC))
        self._first_bytes_per_s = reader.read_first(PREFERRED, budget_s * FIRST_READ_FRAC)
        self._costs = typical({way: reader.sampler(way) for way in ways}, deadline)
        self.way = _way_to_stream(self._costs)
        self._few = Way(self.way.block_bytes, _few_readers(reader, self.way, budget_s * FEW_FRAC))
        samplers = dict(_samplers(reader, ways, self.way, self._few))
        self._visited = Visited(samplers, budget_s * VISITS_FRAC / visits)
        self.visit = self._visited.visit

    @property
    def link(self) -> Link:
        """What reading reaches, after one visit at least."""
        costs, chosen = self._visited.typical, self.way
        best = _costs_by_size(self._costs, chosen)
        best |= {size: cost for (kind, size), cost in costs.items() if kind == "blocks"}
        bursts = {size: 1 / cost for (kind, size), cost in costs.items() if kind == "burst"}
        return Link(
            bytes_per_s=Curve.through({size: 1 / best[size] for size in sorted(best)}),
            request_s=self._costs[LATENCY] * LATENCY.block_bytes,
            block_bytes=chosen.block_bytes,
            concurrency=chosen.depth,
            few_readers=self._few.depth,
            burst_bytes_per_s=Curve.through(bursts),
            small_pages_frac=_small_pages_frac(costs),
            first_bytes_per_s=self._first_bytes_per_s,
        )


def _small_pages_frac(costs: Mapping[_Key, float]) -> float:
    """Of a unit's rate into huge pages."""
    return min(costs["burst", SMALL_BYTES] / costs["small pages", SMALL_BYTES], 1.0)


def _costs_by_size(costs: dict[Way, float], chosen: Way) -> dict[int, float]:
    """Blocks of units are as many in flight as was chosen, smaller requests as many as is best."""
    best: dict[int, float] = {}
    for way, cost in costs.items():
        best[way.block_bytes] = min(best.get(way.block_bytes, cost), cost)
    for way, cost in costs.items():
        if way.block_bytes >= LEAST_BLOCK_BYTES and way.depth == chosen.depth:
            best[way.block_bytes] = cost
    return best


def _samplers(
    reader: DiskReader, ways: tuple[Way, ...], chosen: Way, few: Way
) -> Iterator[tuple[_Key, _Sampler]]:
    """Blocks of units, which are as many in flight as was chosen, and units that are read alone.

    Units that are too small for the chosen block have small blocks, a small ring and few readers.
    """
    for size in sorted({way.block_bytes for way in ways}):
        way = Way(size, chosen.depth)
        if LEAST_BLOCK_BYTES <= size < chosen.block_bytes:
            small = Way(size, few.depth)
            ring_bytes = RING_UNITS * small.depth * size
            yield ("blocks", size), reader.sampler(small, ring_bytes=ring_bytes)
        elif size >= LEAST_BLOCK_BYTES and way in ways:
            yield ("blocks", size), reader.sampler(way)
    for size in BURSTS:
        way = few if size <= chosen.block_bytes else chosen
        yield ("burst", size), reader.burst_sampler(size, way)
    pages = small_pages(RING_UNITS * SMALL_BYTES)
    yield ("small pages", SMALL_BYTES), reader.burst_sampler(SMALL_BYTES, few, pages)


def _way_to_stream(costs: dict[Way, float]) -> Way:
    best = PREFERRED
    for way in costs:
        large = way.block_bytes >= STREAM_BYTES and way.depth >= STREAM_DEPTH
        if large and costs[best] > costs[way] * CLEARLY_BETTER:
            best = way
    return best


def _few_readers(reader: DiskReader, chosen: Way, seconds: float) -> int:
    """The fewest that read a small unit about as fast as any number up to the chosen one."""
    counts = [depth for depth in (2, 4, 8) if depth <= chosen.depth] or [chosen.depth]
    ways = {depth: Way(chosen.block_bytes, depth) for depth in counts}
    samplers = {depth: reader.burst_sampler(SMALL_BYTES, way) for depth, way in ways.items()}
    costs = typical(samplers, Deadline(seconds))
    return next(depth for depth in counts if costs[depth] <= CLEARLY_BETTER * min(costs.values()))
