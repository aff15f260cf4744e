"""The link from disk to memory: rates by block size, and the way in which weights are read."""

from __future__ import annotations

from collections.abc import Iterable

from lm_offload.hardware.curve import Curve
from lm_offload.hardware.disk_reader import RING_UNITS, DiskReader, Way
from lm_offload.hardware.profile import Link
from lm_offload.hardware.timing import Deadline, typical
from lm_offload.storage.blocks import LEAST_BLOCK_BYTES
from lm_offload.units import KIB, MIB, PAGE_BYTES

FIRST_READ_FRAC = 0.25  # of the time
BURST_FRAC = 0.1  # of the time
SMALL_FRAC = 0.15  # of the time, for the blocks of small units
BURSTS = (256 * KIB, MIB, 4 * MIB, 16 * MIB)  # bytes of units that are read alone
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


def measure_reads(reader: DiskReader, ways: tuple[Way, ...], budget_s: float) -> Link:
    """What reading reaches, in about `budget_s`; `ways` contain PREFERRED and LATENCY."""
    deadline = Deadline(budget_s * (1 - BURST_FRAC - SMALL_FRAC))
    first_bytes_per_s = reader.read_first(PREFERRED, budget_s * FIRST_READ_FRAC)
    costs = typical({way: reader.sampler(way) for way in ways}, deadline)  # seconds per byte
    chosen = _way_to_stream(costs)
    best = _costs_by_size(costs, chosen)
    best |= _costs_of_small_units(reader, best, chosen, budget_s * SMALL_FRAC)
    sizes = sorted(best)
    bursts = {size: reader.burst_sampler(size, chosen) for size in BURSTS}
    burst_costs = typical(bursts, Deadline(budget_s * BURST_FRAC))
    return Link(
        bytes_per_s=Curve(tuple(map(float, sizes)), tuple(1 / best[size] for size in sizes)),
        request_s=costs[LATENCY] * LATENCY.block_bytes,
        block_bytes=chosen.block_bytes,
        concurrency=chosen.depth,
        burst_bytes_per_s=Curve(
            tuple(map(float, burst_costs)), tuple(1 / cost for cost in burst_costs.values())
        ),
        first_bytes_per_s=first_bytes_per_s,
    )


def _costs_by_size(costs: dict[Way, float], chosen: Way) -> dict[int, float]:
    """Blocks of units are as many in flight as was chosen, smaller requests as many as is best."""
    best: dict[int, float] = {}
    for way, cost in costs.items():
        best[way.block_bytes] = min(best.get(way.block_bytes, cost), cost)
    for way, cost in costs.items():
        if way.block_bytes >= LEAST_BLOCK_BYTES and way.depth == chosen.depth:
            best[way.block_bytes] = cost
    return best


def _costs_of_small_units(
    reader: DiskReader, sizes: Iterable[int], chosen: Way, budget_s: float
) -> dict[int, float]:
    """Blocks of units that are too small for the chosen block: their ring is small, too."""
    small = [size for size in sizes if LEAST_BLOCK_BYTES <= size < chosen.block_bytes]
    rings = {size: RING_UNITS * chosen.depth * size for size in small}
    works = {
        size: reader.sampler(Way(size, chosen.depth), ring_bytes=ring)
        for size, ring in rings.items()
    }
    return typical(works, Deadline(budget_s))


def _way_to_stream(costs: dict[Way, float]) -> Way:
    best = PREFERRED
    for way in costs:
        large = way.block_bytes >= STREAM_BYTES and way.depth >= STREAM_DEPTH
        if large and costs[best] > costs[way] * CLEARLY_BETTER:
            best = way
    return best
