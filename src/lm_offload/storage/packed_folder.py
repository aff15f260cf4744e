"""A quantized folder as a whole: whether it is sound, and made where it is not."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lm_offload.arch.weights import Unit
from lm_offload.errors import CheckpointError, StorageError
from lm_offload.storage.checkpoint import Checkpoint, FileStamp
from lm_offload.storage.durable import locked
from lm_offload.storage.layout import UnitLayout
from lm_offload.storage.packed_file import float_entries, intact_blocks, unit_layout
from lm_offload.storage.packed_index import (
    DATA_FILE,
    INDEX_FILE,
    PackedIndex,
    PackedPlan,
    make_index,
    read_index,
    write_index,
)
from lm_offload.storage.packed_layout import UnitSource
from lm_offload.storage.packed_writer import NewEncoder, Progress, write_packed

log = logging.getLogger(__name__)

TABLES = "embed.tables"  # the block of the row tables, where a folder holds them


@dataclass(frozen=True)
class Packing:
    """A quantized folder that is to be, and what it is made from."""

    folder: Path
    plan: PackedPlan
    sources: Sequence[UnitSource]
    origin: Checkpoint  # where these are read

    @property
    def data(self) -> Path:
        """The file that holds, or will hold, all blocks."""
        return self.folder / DATA_FILE

    def make(self, new_encoder: NewEncoder, on_progress: Progress) -> None:
        """Write the folder, or what is missing or damaged of it, with one warning if it was there.

        Other processes wait. Raises as `write_packed` does.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with locked(self.folder, "quantizing weights"):
                if not self._is_made():
                    self._write(new_encoder, on_progress)
        except OSError as error:
            raise StorageError(
                f"{self.folder} cannot be used ({error}); choose a folder that is writable."
            ) from error

    def _write(self, new_encoder: NewEncoder, on_progress: Progress) -> None:
        check = self.origin.check_unchanged
        write_packed(self.folder, self.plan, self.sources, new_encoder, on_progress, check)

    def _is_made(self) -> bool:
        if not (self.folder / INDEX_FILE).exists():
            return False
        try:
            index = read_index(self.folder)
            if index.plan != self.plan:
                raise CheckpointError(f"{self.folder} holds weights in another layout.")
            check_data(self.folder, index)
        except CheckpointError as error:
            log.warning("Quantizing again what cannot be used: %s", error)
            return False
        return True


def check_data(folder: Path, index: PackedIndex) -> None:
    """Raise CheckpointError if the data file is not what it was when it was written.

    Its size and time tell; only where they differ (a copy, a repair, a damage) is every byte
    compared with its checksum, and the new time noted if all is well. Bits that rot on the disk
    without a trace are found by `verify_data` alone.
    """
    data = folder / DATA_FILE
    if not data.exists():
        raise CheckpointError(f"{DATA_FILE} is missing from {folder}; quantize the model again.")
    if index.describes(FileStamp.of(data)):
        return
    verify_data(folder, index)
    try:
        write_index(folder, make_index(index.plan, index.checksums, folder))
    except OSError as error:
        log.warning(
            "%s was copied here and cannot be marked as checked (%s): it is read once more at "
            "every start, which costs about a second per GB.",
            data,
            error,
        )


def verify_data(folder: Path, index: PackedIndex) -> None:
    """Compare every block with its checksum; raises CheckpointError naming those that differ."""
    intact = intact_blocks(folder / DATA_FILE, index.plan, index.checksums)
    damaged = [unit.name for unit in index.plan.units if unit.name not in intact]
    if damaged:
        raise CheckpointError(
            f"{folder / DATA_FILE} is damaged in {_few(damaged)}; quantize the model again or copy "
            "the file again."
        )


def distrust(folder: Path, index: PackedIndex) -> None:
    """Have every byte of `folder` checked at its next use, and mended where it can be."""
    write_index(folder, replace(index, modified_ns=0))


def open_tables(folder: Path, index: PackedIndex) -> Checkpoint:
    """The row tables of a folder that holds them, as a checkpoint of their own."""
    data = folder / DATA_FILE
    tables = [unit for unit in index.plan.units if unit.name == TABLES]
    entries = [float_entries(unit, data) for unit in tables]
    tensors = {name: entry for found in entries for name, entry in found.items()}
    return Checkpoint(folder, tensors, {data: FileStamp.of(data)})


def packed_layouts(plan: PackedPlan, units: Sequence[Unit], data: Path) -> list[UnitLayout]:
    """Where each unit lies; raises CheckpointError if `plan` was made for other units."""
    blocks = {block.name: block for block in plan.units}
    for unit in units:
        wanted = [(spec.role, spec.view_shape) for spec in unit.loaded]
        block = blocks.get(unit.name)
        if block is None or [(held.role, held.shape) for held in block.tensors] != wanted:
            raise CheckpointError(
                f"{data} does not hold {unit.name} as config.json describes it; use the "
                "config.json that belongs to these weights."
            )
    return [unit_layout(blocks[unit.name], data) for unit in units]


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more units" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
