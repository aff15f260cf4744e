"""Seconds to fetch embedding rows from disk, a few kilobytes each."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lm_offload.arch.config import ModelConfig
from lm_offload.hardware.profile import Link
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
        """Of so many requests at once; where that is fewer than threads, they follow at once."""
        requests, size_bytes = self._requests(rows)
        own_s = self._own_s(requests, size_bytes)
        if in_flight < GATHER_THREADS:
            first_s = self._own_s(1, size_bytes // requests)
            more = math.ceil(requests / in_flight) - 1
            own_s = max(own_s, first_s + more * self.link.request_s)
        return own_s

    def _own_s(self, requests: int, size_bytes: int) -> float:
        """Of requests alone, from when threads that were idle begin."""
        link, single = self.link, size_bytes == requests * self._row_request_bytes
        measured = link.rows_bytes_per_s if single else link.pieces_bytes_per_s
        if measured is not None:
            return max(size_bytes / measured.at(size_bytes), link.request_s)
        return link.request_s + read_s(link, size_bytes, size_bytes // requests)

    def _requests(self, rows: int) -> tuple[int, int]:
        """Requests and their bytes; rows share one where the gaps between them are small."""
        row_bytes = self.config.embed_size * self.config.itemsize
        table_bytes = self.config.vocab_size * row_bytes
        if table_bytes > rows * MERGE_GAP_BYTES:
            return rows, rows * self._row_request_bytes
        return min(rows, math.ceil(table_bytes / PIECE_BYTES)), table_bytes

    @property
    def _row_request_bytes(self) -> int:
        return request_bytes(self.config.embed_size * self.config.itemsize)
