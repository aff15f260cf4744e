"""The rate of the disk as the engine writes, on a file that is there only for a moment."""

from __future__ import annotations

import itertools
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lm_offload.errors import ConfigError
from lm_offload.hardware.curve import Curve
from lm_offload.hardware.link import Link
from lm_offload.hardware.timing import Deadline, typical
from lm_offload.storage.block_writer import BlockWriter
from lm_offload.units import MIB

BLOCK_SIZES = (8 * MIB, MIB)
FILL_FRAC = 0.6  # of the time, for writing the file once


@contextmanager
def temporary_file(folder: Path) -> Iterator[Path]:
    """An empty file in `folder`, removed at the end; raises ConfigError where none can be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=".lm-offload-profile-", dir=folder)
    except OSError as error:
        raise _not_writable(folder, error) from error
    os.close(descriptor)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def measure_writes(path: Path, size_bytes: int, budget_s: float) -> Link:
    """Fill the file with `size_bytes`, or less where time is short, and say how fast that is.

    Raises ConfigError where the disk has no room for it.
    """
    deadline = Deadline(budget_s)
    try:
        with BlockWriter(path, size_bytes) as writer:
            written_bytes = _fill(writer, size_bytes, Deadline(budget_s * FILL_FRAC))
            samplers = {size: _sampler(writer, size, written_bytes) for size in BLOCK_SIZES}
            costs = typical(samplers, deadline)  # seconds per byte
        os.truncate(path, written_bytes)  # what was only reserved would be read without the disk
    except OSError as error:
        raise _not_writable(path.parent, error) from error
    sizes = sorted(costs)
    curve = Curve(tuple(map(float, sizes)), tuple(1 / costs[size] for size in sizes))
    return Link(curve, block_bytes=max(sizes))


def _not_writable(folder: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"The disk is measured with a file in {folder}, which cannot be written ({error}); name a "
        "folder with --disk-path that is writable and has room."
    )


def _fill(writer: BlockWriter, size_bytes: int, deadline: Deadline) -> int:
    """Bytes written from the start of the file, whole blocks, at least one."""
    block_bytes = min(BLOCK_SIZES[0], size_bytes)
    for start in range(0, size_bytes - block_bytes + 1, block_bytes):
        _write(writer, start, block_bytes)
        if deadline.passed:
            break
    return start + block_bytes


def _sampler(writer: BlockWriter, block_bytes: int, written_bytes: int) -> Callable[[], float]:
    """Seconds per byte of one block, each sample at another place."""
    starts = itertools.cycle(range(0, written_bytes, block_bytes))
    return lambda: _write(writer, next(starts), block_bytes) / block_bytes


def _write(writer: BlockWriter, start: int, block_bytes: int) -> float:
    """Seconds until a block is on the disk."""
    data = os.urandom(MIB)  # nothing below may compress it
    start_s = time.perf_counter()
    writer.begin(start)
    for offset in range(0, block_bytes, MIB):
        writer.write(memoryview(data)[: block_bytes - offset])
    writer.end()
    return time.perf_counter() - start_s
