"""Seconds to fetch embedding rows from disk, a few kilobytes each."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lm_offload.arch.config import ModelConfig
from lm_offload.hardware.link import Link
from lm_offload.planner.costs.disk_cost import read_s
from lm_offload.storage.gather_size import (
    GATHER_THREADS,
    MERGE_GAP_BYTES,
    PIECE_BYTES,
    request_bytes,
)


@dataclass(frozen=True)
class GatherCost:
    """What the rows of one model cost on a disk that also reads units in large blocks."""

    config: ModelConfig
    link: Link
    queue_bytes: int  # of the blocks of units that are in flight at once

    def seconds(self, rows: int, most: int, busy_frac: float) -> float:
        """Seconds for `rows` rows while units keep the disk busy for a share of the time.

        All at once; of micro-batches of one row there is memory for one request at a time.
        """
        return busy_frac * self.behind_s + self.own_s(rows, most)

    @property
    def behind_s(self) -> float:
        """What the first row waits at most, until the blocks that are in flight have been read."""
        return read_s(self.link, self.queue_bytes, self.queue_bytes)

    def own_s(self, rows: int, most: int) -> float:
        """Seconds for `rows` rows on a disk that has nothing else to do."""
        return self._together_s(rows, min(most, GATHER_THREADS))

    def apart_s(self, rows: int, most: int, busy_frac: float) -> float:
        """The same where each micro-batch of at most `most` rows fetches its own."""
        full, rest = divmod(rows, most)
        full_s = full * self._behind_and_own_s(most, busy_frac)
        return full_s + (self._behind_and_own_s(rest, busy_frac) if rest else 0.0)

    def _behind_and_own_s(self, rows: int, busy_frac: float) -> float:
        return busy_frac * self.behind_s + self._together_s(rows, GATHER_THREADS)

    def _together_s(self, rows: int, in_flight: int) -> float:
        """Of so many requests at once, one table after the other."""
        row_bytes = (width * self.config.itemsize for width in self.config.table_widths)
        return sum(self._table_s(it, rows, in_flight) for it in row_bytes) if rows else 0.0

    def _table_s(self, row_bytes: int, rows: int, in_flight: int) -> float:
        """Of one table; where fewer are asked for at once than there are threads, they follow."""
        requests, size_bytes = self._requests(row_bytes, rows)
        single = size_bytes == requests * request_bytes(row_bytes)
        own_s = self._own_s(requests, size_bytes, single)
        if in_flight < GATHER_THREADS:
            one_bytes = size_bytes // requests
            first_s = self._own_s(1, one_bytes, one_bytes == request_bytes(row_bytes))
            more = math.ceil(requests / in_flight) - 1
            own_s = max(own_s, first_s + more * self.link.request_s)
        return own_s

    def _own_s(self, requests: int, size_bytes: int, single: bool) -> float:
        """Of requests alone, of one row each or not, from when threads that were idle begin."""
        link = self.link
        measured = link.rows_bytes_per_s if single else link.pieces_bytes_per_s
        if measured is not None:
            return max(size_bytes / measured.at(size_bytes), link.request_s)
        return link.request_s + read_s(link, size_bytes, size_bytes // requests)

    def _requests(self, row_bytes: int, rows: int) -> tuple[int, int]:
        """Requests and their bytes; rows share one where the gaps between them are small."""
        table_bytes = self.config.vocab_size * row_bytes
        if table_bytes > rows * MERGE_GAP_BYTES:
            return rows, rows * request_bytes(row_bytes)
        return min(rows, math.ceil(table_bytes / PIECE_BYTES)), table_bytes
