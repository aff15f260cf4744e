"""The disk at several moments of a calibration: blocks of units, and rows of embedding tables."""

from __future__ import annotations

from dataclasses import replace

from lm_offload.hardware.clock import Clock
from lm_offload.hardware.disk_probe import DiskProbe
from lm_offload.hardware.disk_reader import DiskReader, Way
from lm_offload.hardware.effort import Effort
from lm_offload.hardware.link import Link
from lm_offload.hardware.rows_probe import RowsProbe
from lm_offload.storage.direct_file import DirectFile

ROWS_FRAC = 0.06  # of the time for reads, for rows of embedding tables


class DiskVisits:
    """Chooses how `file` is read now; its rates are seen in visits before the stages to come.

    The last visit is to be made when all else is done.
    """

    def __init__(self, file: DirectFile, reader: DiskReader, effort: Effort, clock: Clock) -> None:
        budget_s, visits = clock.budget_s("disk reads"), effort.disk_visits
        self._blocks = DiskProbe(reader, effort.ways, budget_s * (1 - ROWS_FRAC), visits)
        self._rows = RowsProbe(file, reader.known_bytes, budget_s * ROWS_FRAC / visits)
        clock.visit_between(self.visit, visits - 1)

    def visit(self) -> None:
        """See how fast blocks and rows are just now."""
        self._blocks.visit()
        self._rows.visit()

    @property
    def way(self) -> Way:
        """In which weights are read."""
        return self._blocks.way

    @property
    def link(self) -> Link:
        """What is typical of all visits."""
        rows = self._rows.rates
        return replace(
            self._blocks.link, rows_bytes_per_s=rows.rows, pieces_bytes_per_s=rows.pieces
        )

    def close(self) -> None:
        """End the threads of the visits."""
        self._rows.close()
