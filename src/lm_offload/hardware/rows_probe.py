"""How fast rows of an embedding table come from disk, read as the engine reads them.

Few rows are requests of their own, as many at once as there are threads; many are near one another
and come in pieces of the table. Either way the threads were idle before, and wait for one another
to run Python.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch

from lm_offload.hardware.curve import Curve
from lm_offload.hardware.visits import Visited
from lm_offload.storage.direct_file import DirectFile
from lm_offload.storage.gather_size import (
    GATHER_THREADS,
    MERGE_GAP_BYTES,
    PIECE_BYTES,
    request_bytes,
)
from lm_offload.storage.layout import Extent
from lm_offload.storage.row_table import RowTable
from lm_offload.storage.safetensors_header import TensorEntry
from lm_offload.units import MIB

WIDTH = 2048  # of a row, bf16
ROW_BYTES = WIDTH * torch.bfloat16.itemsize
MOST_TABLE_BYTES = 16 * MIB  # so that its rows are read again, as those of a model are
OFFSET = 8  # of the table: rows do not begin with pages
FAR, NEAR = 2 * MERGE_GAP_BYTES // ROW_BYTES, MERGE_GAP_BYTES // ROW_BYTES // 2  # from row to row
COUNTS = (1, 4, 16, 64)  # of rows far from one another
PIECES = (PIECE_BYTES, 4 * PIECE_BYTES, 16 * PIECE_BYTES)  # bytes that rows near one another span


class RowRates(NamedTuple):
    """Bytes per second by bytes that are asked for at once; None where the file is too small."""

    rows: Curve | None  # in requests of one row
    pieces: Curve | None  # in pieces that hold many


class RowsProbe:
    """Reads rows in visits of `visit_s`, within the first `known_bytes`, which were read before."""

    def __init__(self, file: DirectFile, known_bytes: int, visit_s: float) -> None:
        self._pool = ThreadPoolExecutor(GATHER_THREADS - 1)
        table = RowTable(_extent(file, min(known_bytes, MOST_TABLE_BYTES)), file, self._pool)
        rows = {count * request_bytes(ROW_BYTES): (count, FAR) for count in COUNTS}
        pieces = {size: (size // (NEAR * ROW_BYTES), NEAR) for size in PIECES}
        samplers = {
            (step, size): _sampler(table, count, step)
            for some in (rows, pieces)
            for size, (count, step) in some.items()
            if count * step < table.num_rows
        }
        self._visited = Visited(samplers, visit_s)
        self.visit = self._visited.visit

    @property
    def rates(self) -> RowRates:
        """After one visit at least."""
        found: dict[int, dict[float, float]] = {FAR: {}, NEAR: {}}
        for (step, size), gather_s in self._visited.typical.items():
            found[step][size] = size / gather_s
        far, near = (Curve.through(found[step]) if found[step] else None for step in (FAR, NEAR))
        return RowRates(far, near)

    def close(self) -> None:
        """End its threads."""
        self._pool.shutdown()


def _extent(file: DirectFile, known_bytes: int) -> Extent:
    """A table that fills the bytes, of one row at least."""
    shape = (max((known_bytes - OFFSET) // ROW_BYTES, 1), WIDTH)
    size_bytes = shape[0] * ROW_BYTES
    entry = TensorEntry("table", file.path, "BF16", shape, OFFSET, size_bytes)
    return Extent("tokens", entry, OFFSET, size_bytes, shape)


def _sampler(table: RowTable, count: int, step: int) -> Callable[[], float]:
    """A function that says how long some rows take, other ones at each call."""
    starts = itertools.cycle(range(0, table.num_rows - count * step, count * step + 1))

    def sample() -> float:
        rows = torch.arange(count) * step + next(starts)
        start_s = time.perf_counter()
        table.gather(rows)
        return time.perf_counter() - start_s

    return sample
