"""What has to move in a sweep at least: bytes without a home, and the seconds that they take.

What moves needs a ring that holds the largest unit of it, and the ring takes room from homes::

    bytes that move  >=  bytes without room + the largest unit that moves
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from lm_offload.hardware.link import Link
from lm_offload.planner.costs.gather_cost import GatherCost
from lm_offload.planner.costs.model_sizes import ModelSizes
from lm_offload.planner.places.host_placement import read_block_bytes
from lm_offload.planner.sweeps.read_times import queue_bytes, unit_read_s


class Moved(NamedTuple):
    """Bytes of a sweep, and how large the largest unit among them is; both at least."""

    size_bytes: float
    largest_bytes: int = 0


NOTHING = Moved(0.0)
IMPOSSIBLE = Moved(math.inf)


def least_moved(model: ModelSizes, surplus_bytes: float) -> Moved:
    """Of units for which `surplus_bytes` of room are missing; IMPOSSIBLE where no ring fits."""
    if surplus_bytes <= 0:
        return NOTHING
    for largest_bytes, all_bytes in model.bytes_up_to.items():
        if all_bytes >= surplus_bytes + largest_bytes:
            return Moved(surplus_bytes + largest_bytes, largest_bytes)
    return IMPOSSIBLE


def least_read_s(model: ModelSizes, disk: Link, moved: Moved) -> float:
    """As if all of it were of the unit that is read at the best rate."""
    block_bytes = read_block_bytes(disk)
    return moved.size_bytes * min(
        _least_s_per_byte(
            model, partial(unit_read_s, disk, block_bytes=block_bytes, concurrency=readers)
        )
        for readers in _readers(disk)
    )


def least_upload_s(model: ModelSizes, link: Link, moved: Moved) -> float:
    """The same of uploads."""
    return moved.size_bytes * _least_s_per_byte(model, link.transfer_s)


def least_gather_s(
    model: ModelSizes, disk: Link, moved: Moved, rows: int, most: int, busy_frac: float
) -> float:
    """To fetch embedding rows beside these reads, at most `most` of them at once."""
    block_bytes = read_block_bytes(disk)
    largest = [size for size in model.bytes_up_to if size >= moved.largest_bytes]
    ways = itertools.product(largest, _readers(disk))
    queues = {queue_bytes(size, block_bytes, readers) for size, readers in ways}
    costs = (GatherCost(model.config, disk, queue) for queue in queues)
    return min(cost.seconds(rows, most, busy_frac) for cost in costs)


def _readers(disk: Link) -> set[int]:
    """How many there may be."""
    return {disk.concurrency, disk.few_readers or disk.concurrency}


def _least_s_per_byte(model: ModelSizes, seconds_of: Callable[[int], float]) -> float:
    return min(seconds_of(size_bytes) / size_bytes for size_bytes in model.bytes_up_to)
