"""Quantizes a checkpoint into one data file, block by block in bounded memory.

What is killed is taken up again at the block it was at: a block counts once it has reached the
disk and the journal says so, and the folder is complete once its index was renamed into place.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from lm_offload.errors import CheckpointError, LMOffloadError, StorageError
from lm_offload.storage.block_writer import BlockWriter
from lm_offload.storage.direct_file import open_files
from lm_offload.storage.durable import remove_whole
from lm_offload.storage.one_ahead import one_ahead
from lm_offload.storage.packed_file import intact_blocks
from lm_offload.storage.packed_index import (
    DATA_FILE,
    INDEX_FILE,
    PackedIndex,
    PackedPlan,
    make_index,
    read_index,
    write_index,
)
from lm_offload.storage.packed_journal import JOURNAL_FILE, Journal
from lm_offload.storage.packed_layout import TENSOR_ALIGNMENT, PackedUnit, UnitSource
from lm_offload.storage.tensor_source import Piece, row_count
from lm_offload.units import format_bytes

if TYPE_CHECKING:
    from lm_offload.storage.packed_encode import Encoder

Progress = Callable[[int, int], None]  # bytes of weights read so far, bytes to read
NewEncoder = Callable[[], "Encoder"]  # called where there is something to be encoded


def write_packed(
    folder: Path,
    plan: PackedPlan,
    sources: Sequence[UnitSource],
    new_encoder: NewEncoder,
    on_progress: Progress,
    check_origin: Callable[[], None],
) -> PackedIndex:
    """Write what `folder` does not hold yet of `plan`, whose units come from `sources`.

    Raises StorageError (full disk, failing disk), after which another call goes on, and
    another LMOffloadError for weights that cannot be quantized, or of which `check_origin` finds
    at the end that they changed meanwhile, after which nothing is left.
    """
    try:
        return _write(folder, plan, sources, new_encoder, on_progress, check_origin)
    except OSError as error:
        raise StorageError(
            f"Writing to {folder} failed: {error}; make room or check the disk, then start again "
            "to go on from here."
        ) from error
    except StorageError:
        raise
    except LMOffloadError:
        remove_packed(folder)
        raise


def remove_packed(folder: Path) -> None:
    """Remove what `write_packed` wrote, the index first."""
    for name in (INDEX_FILE, JOURNAL_FILE, DATA_FILE):
        remove_whole(folder / name)


def _write(
    folder: Path,
    plan: PackedPlan,
    sources: Sequence[UnitSource],
    new_encoder: NewEncoder,
    on_progress: Progress,
    check_origin: Callable[[], None],
) -> PackedIndex:
    data = folder / DATA_FILE
    _check_space(data, plan)
    journal = Journal(folder, plan.identity)
    known = {**journal.checksums, **_indexed_checksums(folder, plan)}
    journal.restart(intact_blocks(data, plan, known))
    (folder / INDEX_FILE).unlink(missing_ok=True)
    if not journal.checksums:
        data.unlink(missing_ok=True)  # of another plan; who still reads it keeps it
    pairs = zip(plan.units, sources, strict=True)
    missing = [(unit, source) for unit, source in pairs if unit.name not in journal.checksums]
    with BlockWriter(data, plan.size_bytes) as writer, new_encoder() as encoder:
        for name, checksum in _write_units(writer, encoder, missing, on_progress):
            journal.append(name, checksum)
    check_origin()
    index = make_index(plan, journal.checksums, folder)
    write_index(folder, index)
    journal.remove()
    return index


def _indexed_checksums(folder: Path, plan: PackedPlan) -> Mapping[str, int]:
    """Those of a complete folder of the same plan, in which a block is damaged."""
    try:
        index = read_index(folder)
    except CheckpointError:  # there is none, or it is damaged itself
        return {}
    return index.checksums if index.plan == plan else {}


def _check_space(data: Path, plan: PackedPlan) -> None:
    held_bytes = os.stat(data).st_blocks * 512 if data.exists() else 0
    free_bytes = shutil.disk_usage(data.parent).free
    if plan.size_bytes - held_bytes > free_bytes:
        raise StorageError(
            f"The disk of {data.parent} has {format_bytes(free_bytes)} free, the quantized weights "
            f"need {format_bytes(plan.size_bytes - held_bytes)}; make room, or name a folder on "
            "another disk with --output or LM_OFFLOAD_CACHE."
        )


def _write_units(
    writer: BlockWriter,
    encoder: Encoder,
    missing: Sequence[tuple[PackedUnit, UnitSource]],
    on_progress: Progress,
) -> Iterator[tuple[str, int]]:
    """Write blocks; yields the name and checksum of each once it has reached the disk."""
    total_bytes, done_bytes = sum(source.size_bytes for _, source in missing), 0
    tensors = [tensor for _, source in missing for tensor in source.tensors]
    with ExitStack() as stack:
        files = open_files(path for tensor in tensors for path in tensor.paths)
        for file in files.values():
            stack.callback(file.close)
        pieces = chain.from_iterable(tensor.pieces(files) for tensor in tensors)
        ahead = stack.enter_context(closing(one_ahead(pieces, encoder.on_one_core)))
        for unit, source in missing:
            writer.begin(unit.offset)
            for count in _write_unit(writer, encoder, unit, source, ahead):
                done_bytes += count
                on_progress(done_bytes, total_bytes)
            yield unit.name, writer.end()


def _write_unit(
    writer: BlockWriter,
    encoder: Encoder,
    unit: PackedUnit,
    source: UnitSource,
    pieces: Iterator[Piece],
) -> Iterator[int]:
    """Write the tensors of a unit, whose rows come next; yields the bytes read of each piece."""
    for tensor, origin in zip(unit.tensors, source.tensors, strict=True):
        writer.pad(TENSOR_ALIGNMENT)
        done_rows, done_bytes = 0, 0
        while done_rows < tensor.shape[0]:
            piece = next(pieces)
            for data in encoder.encode(piece, tensor):
                writer.write(data)
            done_rows += row_count(piece)
            before_bytes, done_bytes = done_bytes, origin.size_bytes * done_rows // tensor.shape[0]
            yield done_bytes - before_bytes
