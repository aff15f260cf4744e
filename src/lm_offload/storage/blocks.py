"""Cuts the runs of a unit into the blocks that are read, several in flight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lm_offload.storage.direct_file import DirectFile
from lm_offload.storage.layout import UnitLayout
from lm_offload.units import KIB, align_up

LEAST_BLOCK_BYTES = 256 * KIB  # smaller requests are bound by their number


@dataclass(frozen=True)
class Block:
    """One read request: `size_bytes` of `file` from `file_offset` to `memory`."""

    file: DirectFile
    file_offset: int
    memory: memoryview

    def read(self) -> int:
        """Do it; returns the bytes read, raises StorageError."""
        return self.file.read_into(self.memory, self.file_offset)


def block_bytes_of(unit_bytes: int, block_bytes: int, concurrency: int) -> int:
    """The size of the blocks of one unit: as given, or less where readers would have none.

    A disk gives one request a part of its rate: a small unit read alone is cut for all readers.
    """
    part_bytes = align_up(-(-unit_bytes // concurrency))
    return min(block_bytes, max(part_bytes, LEAST_BLOCK_BYTES))


def cut_blocks(
    layout: UnitLayout, memory: memoryview, files: Mapping[Path, DirectFile], block_bytes: int
) -> list[Block]:
    """The read requests that fill `memory` (at least `layout.size_bytes`) with a unit."""
    blocks = []
    for run in layout.runs:
        for start in range(0, run.size_bytes, block_bytes):
            stop = min(start + block_bytes, run.size_bytes)
            target = memory[run.memory_offset + start : run.memory_offset + stop]
            blocks.append(Block(files[run.path], run.file_offset + start, target))
    return blocks
