"""Which streamed units a sweep finds in KV memory that is not in use, as the engine decides it.

::

    KV memory   | blocks up to the next token | kept prefixes | ..... | unit | unit | unit |

Contexts grow, so a sweep finds what its own blocks leave room for. Prefixes of sequences that have
ended are kept while nobody needs the room, so only the first wave of a run lends much.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from lm_offload.kvcache.cache import blocks_for
from lm_offload.plan import Retention
from lm_offload.planner.costs.sweep_shape import SweepGroup, SweepShape
from lm_offload.schedule.retention import Lending, lend

MOST_SPANS = 8  # of a group of sweeps whose contexts grow


@dataclass(frozen=True)
class KVLending:
    """What a cache of `num_blocks` blocks lends to streamed units; sizes by number of the unit."""

    streamed_bytes: Mapping[int, int]
    cache_bytes: int
    num_blocks: int
    waves: int  # of sequences in a run
    _kept: dict[int, frozenset[int]] = field(default_factory=dict, compare=False, repr=False)

    def kept(self, shape: SweepShape) -> frozenset[int]:
        """The units that a sweep need not read."""
        blocks = used_blocks(shape, self.num_blocks)
        if blocks not in self._kept:
            used_bytes = blocks * self.cache_bytes // self.num_blocks
            count = self._lending.fitting(used_bytes)
            self._kept[blocks] = frozenset(self._lending.units[:count])
        return self._kept[blocks]

    def kept_frac(self, shape: SweepShape) -> float:
        """About the share of streamed bytes that a mean sweep need not read, for estimates."""
        return min(self.lent_bytes(shape) / self._total_bytes, 1.0)

    def lent_bytes(self, shape: SweepShape) -> float:
        """About the bytes that a mean sweep need not read: half a unit less than are free."""
        free_frac = 1.0 - used_blocks(shape, self.num_blocks) / self.num_blocks
        unit_bytes = self._total_bytes / len(self.streamed_bytes)
        return max(free_frac * self.cache_bytes - unit_bytes / 2, 0.0) / self.waves

    def retention(self, groups: Iterable[SweepGroup]) -> Retention:
        """The mean over the sweeps of a run, each group at the middles of a few spans."""
        units = size_bytes = sweeps = 0.0
        for group in groups:
            spans = min(group.count, MOST_SPANS)
            for index in range(spans):
                kept = self.kept(group.shape.later(int((index + 0.5) * group.count / spans)))
                units += group.count / spans * len(kept)
                kept_bytes = sum(self.streamed_bytes[unit] for unit in kept)
                size_bytes += group.count / spans * kept_bytes
            sweeps += group.count
        return Retention(units / sweeps, size_bytes / sweeps)

    @cached_property
    def _lending(self) -> Lending:
        return lend(self.streamed_bytes, self.cache_bytes)

    @cached_property
    def _total_bytes(self) -> int:
        return sum(self.streamed_bytes.values())


def used_blocks(shape: SweepShape, num_blocks: int) -> int:
    """Those of all tokens and of the next one of each sequence, of so many at most."""
    own = sum(piece.sequences * blocks_for(piece.context + 1) for piece in shape.pieces)
    return min(own + shape.kept_blocks, num_blocks)
