"""The links of a device: each direction alone, both at once, and staged where nothing is pinned.

Copies are timed two in flight, as uploads are::

    pinned   h2d  | copy | copy | ...        staged   cpu  | fill 0 | fill 1 | fill 0 | ...
    both     h2d  | copy | copy | ...                 h2d           | copy 0 | copy 1 | ...
             d2h  | copy | copy | ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

from torch import Tensor

from lm_offload.device.base import Stream
from lm_offload.hardware.curve import Curve
from lm_offload.hardware.link import Link
from lm_offload.hardware.timing import typical_s
from lm_offload.hardware.together import left_of_each
from lm_offload.units import KIB, MIB, PAGE_BYTES

COPY_BYTES = (256 * KIB, MIB, 4 * MIB, 16 * MIB, 64 * MIB)
COPIES = 2  # in flight
STAGED_COPIES = 4  # of which one is filled alone

Copies = Callable[[int], object]  # of so many bytes each, until the last is done


def measure_link(stream: Stream, source: Tensor, target: Tensor, budget_s: float) -> Link:
    """One direction alone, from `source` to `target`, uint8 of one size."""
    return _link(partial(copy_all, stream, source, target), source.nbytes, budget_s)


def measure_staged(
    stream: Stream, source: Tensor, stage: Tensor, target: Tensor, budget_s: float
) -> Link:
    """The same through the two halves of `stage`, which is pinned: one is filled beside the other.

    Blocks are no larger than a half.
    """
    copies = partial(_stage_all, stream, source, stage, target)
    return _link(copies, stage.nbytes, budget_s, STAGED_COPIES)


def with_opposed(
    links: tuple[Link, Link], copies: tuple[Copies, Copies], most_bytes: int, budget_s: float
) -> tuple[Link, Link]:
    """Both links with what is left of each, by block, while the other works without pause.

    The copies of one direction share no memory with those of the other, `most_bytes` of each.
    """
    (up, down), (up_copies, down_copies) = links, copies
    known = {*up.bytes_per_s.sizes} & {*down.bytes_per_s.sizes}
    sizes = sorted(int(size) for size in known if size * COPIES <= most_bytes) or [PAGE_BYTES]
    left = {
        size: left_of_each(
            partial(up_copies, size), partial(down_copies, size), budget_s / len(sizes)
        )
        for size in sizes
    }
    return (
        replace(up, opposed_frac=Curve.through({size: pair[0] for size, pair in left.items()})),
        replace(down, opposed_frac=Curve.through({size: pair[1] for size, pair in left.items()})),
    )


def copy_all(stream: Stream, source: Tensor, target: Tensor, size_bytes: int) -> None:
    """Copies of so many bytes each, and the wait for the last."""
    for index in range(COPIES):
        part = slice(index * size_bytes, (index + 1) * size_bytes)
        stream.copy_async(source[part], target[part])
    stream.record().synchronize()


def _stage_all(
    stream: Stream, source: Tensor, stage: Tensor, target: Tensor, size_bytes: int
) -> None:
    """A buffer is filled again when its last copy is done."""
    buffers = stage.view(2, -1)[:, :size_bytes]
    ends = [stream.record(), stream.record()]
    for index in range(STAGED_COPIES):
        buffer, part = buffers[index % 2], slice(0, size_bytes)
        ends[index % 2].synchronize()
        stream.copy_async(buffer.copy_(source[part]), target[part])
        ends[index % 2] = stream.record()
    stream.record().synchronize()


def _link(copies: Copies, most_bytes: int, budget_s: float, count: int = COPIES) -> Link:
    """Rates by block; the cost of a request is that of a copy of one page.

    A block comes before the page: one of them is measured however little time a stall leaves.
    """
    sizes = [size for size in COPY_BYTES if size * COPIES <= most_bytes] or [PAGE_BYTES]
    seconds = typical_s(_works(copies, [sizes[0], PAGE_BYTES, *sizes[1:]]), budget_s)
    rates = {size: size * count / seconds[size] for size in sizes if size in seconds}
    page_s = 0.0 if PAGE_BYTES in rates else seconds.get(PAGE_BYTES, 0.0)
    best = max(rates, key=rates.__getitem__)
    return Link(Curve.through(rates), page_s / count, best, COPIES)


def _works(copies: Copies, sizes: Iterable[int]) -> dict[int, Callable[[], object]]:
    return {size: partial(copies, size) for size in sizes}
