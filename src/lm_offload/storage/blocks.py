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


def reader_threads(largest_bytes: int, block_bytes: int, concurrency: int) -> int:
    """How many threads read units of at most so many bytes with `concurrency` blocks in flight.

    One more where units have twice as many blocks: a reader whose block is there waits for a core
    that computes, and the disk has the next block meanwhile. It would delay smaller units, as
    blocks of the next one come beside the last ones of this one.
    """
    return concurrency + (largest_bytes >= 2 * block_bytes * concurrency)


def cut_blocks(
    layout: UnitLayout,
    memory: memoryview,
    files: Mapping[Path, DirectFile],
    block_bytes: int,
    part: range,
) -> list[Block]:
    """The read requests that fill `part` of `memory` (at least `layout.size_bytes`) with a unit."""
    blocks = []
    for run in layout.runs:
        end = min(run.memory_offset + run.size_bytes, part.stop)
        for start in range(max(run.memory_offset, part.start), end, block_bytes):
            target = memory[start : min(start + block_bytes, end)]
            file_offset = run.file_offset + start - run.memory_offset
            blocks.append(Block(files[run.path], file_offset, target))
    return blocks
