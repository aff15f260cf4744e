"""Seconds to fetch embedding rows from disk, a few kilobytes each."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lm_offload.arch.config import ModelConfig
from lm_offload.hardware.profile import Link
from lm_offload.planner.disk_cost import read_s
from lm_offload.storage.gather_size import GATHER_THREADS, MERGE_GAP_BYTES, PIECE_BYTES
from lm_offload.units import PAGE_BYTES, align_up


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
        return self._seconds(rows, min(most, GATHER_THREADS), busy_frac)

    def apart_s(self, rows: int, most: int, busy_frac: float) -> float:
        """The same where each micro-batch of at most `most` rows fetches its own."""
        full, rest = divmod(rows, most)
        full_s = full * self._seconds(most, GATHER_THREADS, busy_frac) if full else 0.0
        return full_s + self._seconds(rest, GATHER_THREADS, busy_frac)

    def _seconds(self, rows: int, in_flight: int, busy_frac: float) -> float:
        """Of rows that are asked for at once; a round of them waits behind the blocks in flight.

        The rate of small blocks is that of as many in flight: only the first has to be waited for;
        with fewer in flight each round has.
        The threads were idle, and their buffers have left the caches: megabytes take a burst.
        """
        if rows == 0:
            return 0.0
        requests, request_bytes = self._requests(rows)
        behind_s = busy_frac * read_s(self.link, self.queue_bytes, self.queue_bytes)
        own_s = self._own_s(requests * request_bytes, request_bytes)
        rounds = math.ceil(requests / in_flight)
        if in_flight < GATHER_THREADS:
            own_s = max(own_s, (rounds - 1) * self.link.request_s)
        return self.link.request_s + rounds * behind_s + own_s

    def _own_s(self, size_bytes: int, request_bytes: int) -> float:
        """In requests of this size, or in one burst if that is longer."""
        queued_s, burst = read_s(self.link, size_bytes, request_bytes), self.link.burst_bytes_per_s
        return max(queued_s, size_bytes / burst.at(size_bytes)) if burst else queued_s

    def _requests(self, rows: int) -> tuple[int, int]:
        """Requests and their bytes; rows share one where the gaps between them are small."""
        row_bytes = self.config.embed_size * self.config.itemsize
        table_bytes = self.config.vocab_size * row_bytes
        if table_bytes > rows * MERGE_GAP_BYTES:
            return rows, align_up(row_bytes + PAGE_BYTES)
        requests = min(rows, math.ceil(table_bytes / PIECE_BYTES))
        return requests, math.ceil(table_bytes / requests)
