"""The home of each unit: in memory, or on disk with a place in the staging ring."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from lm_offload.arch.weights import Unit
from lm_offload.storage.arena import Arena
from lm_offload.storage.blocks import Block, block_bytes_of, cut_blocks
from lm_offload.storage.checkpoint import Checkpoint
from lm_offload.storage.direct_file import open_files
from lm_offload.storage.gather_size import GATHER_THREADS
from lm_offload.storage.layout import UnitLayout, find_extent
from lm_offload.storage.resident_rows import ResidentRows
from lm_offload.storage.row_table import RowTable
from lm_offload.storage.unit_views import UnitViews, Views

Rows = RowTable | ResidentRows


@dataclass(frozen=True)
class ReadSettings:
    """How blocks are read: their size and how many are in flight."""

    block_bytes: int
    concurrency: int


class WeightStore:
    """Gives views of units and the reads that fill them; owns the open weight files."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        layouts: Sequence[UnitLayout],
        settings: ReadSettings,
        ring: Arena,
    ) -> None:
        self.checkpoint = checkpoint
        self.layouts = layouts
        self._settings = settings
        self._ring = ring
        self._files = open_files(checkpoint.stamps)
        self._views = UnitViews(layouts, ring)
        self._homes: dict[int, Arena] = {}
        self._row_pool = ThreadPoolExecutor(GATHER_THREADS - 1, thread_name_prefix="rows")

    def load(self, homes: Mapping[int, Arena]) -> Generator[int, None, None]:
        """Read units into their homes; yields the bytes of each block as it arrives."""
        blocks = [
            block for unit, home in homes.items() for block in self._blocks(unit, home.buffer)
        ]
        pool = ThreadPoolExecutor(self._settings.concurrency, thread_name_prefix="load")
        try:
            yield from pool.map(Block.read, blocks)
        finally:
            pool.shutdown(cancel_futures=True)
        for unit, home in homes.items():
            self.settle(unit, home)

    def settle(self, unit: int, home: Arena) -> None:
        """`unit` has its home there; who reads it is another matter."""
        self._views.settle(unit, home)
        self._homes[unit] = home

    def take_home(self, unit: int, owner: int) -> None:
        """`unit` has the home of `owner`, which has none any more."""
        home = self._homes.pop(owner)
        self._views.leave(owner)
        self.settle(unit, home)

    def has_home(self, unit: int) -> bool:
        """Whether `unit` lives in memory."""
        return unit in self._homes

    def acquire(self, unit: int, ring_offset: int) -> Views:
        """The weights of `unit` by role: where it lives, or at `ring_offset` of the ring."""
        return self._views.acquire(unit, ring_offset)

    def memory_of(self, unit: int, ring_offset: int) -> Tensor:
        """All bytes of `unit`, uint8 [layout.size_bytes]: where it lives, or in the ring."""
        size_bytes = self.layouts[unit].size_bytes
        if ring_offset < 0:
            return self._homes[unit].view(0, torch.uint8, (size_bytes,))
        return self._ring.view(ring_offset, torch.uint8, (size_bytes,))

    def staging_blocks(self, unit: int, ring_offset: int, part: range | None = None) -> list[Block]:
        """The reads that put `unit` at `ring_offset` of the ring or, below zero, into its home.

        `part` are the bytes of the unit that are wanted, all of them if it is not given.
        """
        if ring_offset < 0:
            return self._blocks(unit, self._homes[unit].buffer, part)
        return self._blocks(unit, self._ring.buffer[ring_offset:], part)

    def row_table(self, unit: Unit, role: str) -> RowTable:
        """A table of `unit` whose rows are read from disk."""
        spec = next(spec for spec in unit.tables if spec.role == role)
        extent = find_extent(self.checkpoint, spec)
        return RowTable(extent, self._files[extent.entry.path], self._row_pool)

    def resident_rows(self, units: Sequence[int], role: str) -> ResidentRows:
        """A table whose parts are weights of units that live one behind the other."""
        parts = [self.acquire(unit, -1)[role] for unit in units]
        home = self._homes[units[0]].through(self._homes[units[-1]])
        offset = self.layouts[units[0]].places[role].offset
        count = (home.size_bytes - offset) // parts[0].itemsize
        return ResidentRows(parts, home.view(offset, parts[0].dtype, (count,)))

    def close(self) -> None:
        """Close the files; no read may be in flight."""
        self._row_pool.shutdown()
        for file in self._files.values():
            file.close()

    def _blocks(self, unit: int, memory: memoryview, part: range | None = None) -> list[Block]:
        layout, settings = self.layouts[unit], self._settings
        block_bytes = block_bytes_of(layout.size_bytes, settings.block_bytes, settings.concurrency)
        part = part or range(layout.size_bytes)
        return cut_blocks(layout, memory, self._files, block_bytes, part)
