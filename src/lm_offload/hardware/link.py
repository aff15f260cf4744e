"""How fast one direction between two tiers moves bytes."""

from __future__ import annotations

from dataclasses import dataclass

from lm_offload.hardware.curve import Curve


@dataclass(frozen=True)
class Link:
    """One direction between two tiers: a rate by block size and a cost of each transfer.

    Rates hold for bytes that are moved again and again, as weights are in every sweep.
    """

    bytes_per_s: Curve  # by block bytes, each at its best number of blocks in flight
    request_s: float = 0.0  # fixed cost of a transfer, not overlapped
    block_s: float = 0.0  # of the CPU, for each block that is handed over by Python
    block_bytes: int = 0  # the best block for large transfers; 0: whole transfers
    concurrency: int = 1  # blocks of this size in flight
    first_bytes_per_s: float = 0.0  # of bytes never read before, by large blocks; 0: the same
    few_readers: int = 0  # that read units which are no larger than a block; 0: `concurrency`
    burst_bytes_per_s: Curve | None = None  # by bytes of a unit that is read alone; None: as others
    # Of rows of embedding tables, by bytes that are asked for at once: in requests of one row, and
    # in pieces of a table that hold many; None: as blocks of that size.
    rows_bytes_per_s: Curve | None = None
    pieces_bytes_per_s: Curve | None = None
    small_pages_frac: float = 1.0  # what is left of these rates into memory in small pages
    opposed_frac: Curve | None = None  # by block bytes, left while the other direction works

    def transfer_s(self, size_bytes: float) -> float:
        """Seconds to move `size_bytes` in the best blocks."""
        if size_bytes <= 0:
            return 0.0
        block_bytes = min(size_bytes, self.block_bytes or size_bytes)
        return self.request_s + size_bytes / self.bytes_per_s.at(block_bytes)
