"""The disk tier of the KV cache: whole blocks in a file, a staging ring and tails in memory.

A block of one layer is its keys, then its values, padded to a sector; it looks the same in all
three places, so a run of blocks is one transfer::

    file   layer 1 | block 0 | block 1 | ...    every block has a place, at first its number
           layer 3 | block 0 | ...
           layer 1 | block n | ...              as many again, once sequences are swapped
           layer 3 | block n | ...
    ring   | group of layer 1 | group of layer 1 | ...   what attention reads, for a moment
    tails  layer 1 | lane 0 | lane 1 | ...      the last, partly filled block of each sequence

A block is written once, when it is full; what is partly filled stays in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from lm_offload.arch.accounting import kept_bytes
from lm_offload.arch.config import ModelConfig
from lm_offload.errors import StorageError
from lm_offload.kvcache.file_places import FilePlaces
from lm_offload.kvcache.file_runs import Run, cut_in_file
from lm_offload.kvcache.spilled_size import spilled_block_bytes
from lm_offload.quant.format import Format
from lm_offload.quant.kv_blocks import Blocks, CacheShape, PackedBlocks, address_of, blocks_in
from lm_offload.quant.kv_format import BLOCK_TOKENS
from lm_offload.storage.arena import Arena
from lm_offload.storage.spill_file import SpillFile

Transfer = Callable[[], int]  # moves bytes and says how many
WORD = torch.int64  # to copy blocks by: eight times as fast as by bytes


class Seats(NamedTuple):
    """Partly filled blocks: where each is in its group, and the lane of its sequence."""

    places: NDArray[np.int64]  # [n]
    lanes: NDArray[np.int64]  # [n]


class SpilledCache:
    """Keys and values of some layers of the usual shape; positions in the ring count blocks."""

    def __init__(
        self,
        config: ModelConfig,
        format: Format,
        layers: Sequence[int],
        num_blocks: int,
        ring_blocks: int,
        arena: Arena,
        file: SpillFile,
        transfer_bytes: int,
    ) -> None:
        self.block_bytes = spilled_block_bytes(config, format)
        self._index = {layer: index for index, layer in enumerate(layers)}
        self._num_blocks = num_blocks
        self.places = FilePlaces(num_blocks)
        self._has_slots = False  # whether the file has room for more places than blocks
        self._file = file
        self._most_blocks = max(transfer_bytes // self.block_bytes, 1)  # of one transfer
        ring_bytes = ring_blocks * self.block_bytes
        self._memory = arena.buffer[:ring_bytes]
        ring = arena.view(0, torch.uint8, (ring_blocks, self.block_bytes))
        shape = CacheShape(ring_blocks, *config.usual_kv_shape, format)
        part_bytes = BLOCK_TOKENS * kept_bytes(config.usual_kv_shape, format) // 2
        self._keys = blocks_in(ring[:, :part_bytes], shape, "tokens")
        self._values = blocks_in(ring[:, part_bytes : 2 * part_bytes], shape, "channels")
        self._address = address_of(self._keys)
        # By numpy, for which a few blocks take some 3 us; torch takes 50 to 100.
        self._ring = ring.view(WORD).numpy()
        lanes = (arena.size_bytes - ring_bytes) // (self.block_bytes * len(layers))
        words = self.block_bytes // WORD.itemsize
        self._tails = arena.view(ring_bytes, WORD, (len(layers), lanes, words)).numpy()
        self._lost: list[tuple[Run, StorageError]] = []  # by all threads

    def views(self, offset: int, count: int) -> tuple[Blocks, Blocks]:
        """Keys and values of `count` blocks of the ring from `offset`, as kernels take them."""
        return _part(self._keys, offset, count), _part(self._values, offset, count)

    def address(self, offset: int) -> int:
        """Where the keys of a place of the ring begin."""
        return self._address + offset * self.block_bytes

    def seat(self, layer: int, offset: int, seats: Seats) -> None:
        """Put the tails of a group into the ring, where attention continues them."""
        if len(seats.places):
            self._ring[seats.places + offset] = self._tails[self._index[layer]][seats.lanes]

    def keep(self, layer: int, offset: int, seats: Seats) -> None:
        """Keep the blocks of a group that are not full yet."""
        if len(seats.places):
            self._tails[self._index[layer]][seats.lanes] = self._ring[seats.places + offset]

    def reads(self, layer: int, offset: int, runs: Iterable[Run]) -> list[Transfer]:
        """Transfers from the file to the ring."""
        return [self._read(layer, offset, run) for run in self._cut(runs)]

    def writes(self, layer: int, offset: int, runs: Iterable[Run]) -> list[Transfer]:
        """Transfers from the ring to the file."""
        return [self._write(layer, offset, run) for run in self._cut(runs)]

    def take_lost(self) -> dict[int, StorageError]:
        """The blocks that could not be read or written since the last call, and why."""
        lost, self._lost = self._lost, []
        return {run.number + index: error for run, error in lost for index in range(run.blocks)}

    @property
    def layers(self) -> Sequence[int]:
        """The layers that lie here."""
        return list(self._index)

    def read_block(self, layer: int, number: int, memory: memoryview) -> None:
        """A full block, into `block_bytes` that begin at a page; raises StorageError."""
        self._file.read_into(memory, self._place(layer, number))

    def write_block(self, layer: int, number: int, memory: memoryview) -> None:
        """A full block from elsewhere; raises StorageError."""
        self._file.write_from(memory, self._place(layer, number))

    def make_room_for_slots(self) -> None:
        """Let the file hold what slots keep beside all blocks; raises StorageError."""
        if not self._has_slots:
            blocks = 2 * len(self._index) * self._num_blocks
            self._file.grow(blocks * self.block_bytes)
            self._has_slots = True

    def close(self) -> None:
        """Give the file back; no transfer may be in flight."""
        self._file.close()

    def _cut(self, runs: Iterable[Run]) -> Iterable[Run]:
        if self._has_slots:  # else every block is where its number says
            runs = cut_in_file(runs, self.places.of, self._num_blocks)
        for number, place, count in runs:
            for start in range(0, count, self._most_blocks):
                size = min(self._most_blocks, count - start)
                yield Run(number + start, place + start, size)

    def _read(self, layer: int, offset: int, run: Run) -> Transfer:
        memory, at = self._ends(layer, offset, run)
        return self._guarded(run, lambda: self._file.read_into(memory, at))

    def _write(self, layer: int, offset: int, run: Run) -> Transfer:
        memory, at = self._ends(layer, offset, run)
        return self._guarded(run, lambda: self._file.write_from(memory, at))

    def _guarded(self, run: Run, move: Transfer) -> Transfer:
        """A transfer whose failure is noted; the sweep goes on for those whom it does not concern.

        What others compute does not depend on what lies in the place of the lost blocks.
        """

        def transfer() -> int:
            try:
                return move()
            except StorageError as error:
                self._lost.append((run, error))
                return 0

        return transfer

    def _ends(self, layer: int, offset: int, run: Run) -> tuple[memoryview, int]:
        """The memory of a run and its place in the file."""
        start = (offset + run.place) * self.block_bytes
        memory = self._memory[start : start + run.blocks * self.block_bytes]
        return memory, self._place(layer, run.number)

    def _place(self, layer: int, number: int) -> int:
        """Bytes before a block in the file."""
        half, rest = divmod(int(self.places.of[number]), self._num_blocks)
        row = half * len(self._index) + self._index[layer]
        return (row * self._num_blocks + rest) * self.block_bytes


def _part(blocks: Blocks, offset: int, count: int) -> Blocks:
    if isinstance(blocks, PackedBlocks):
        data = blocks.data.narrow(0, offset, count)
        return PackedBlocks(data, blocks.format, blocks.head_dim, blocks.lanes)
    return blocks.narrow(0, offset, count)
