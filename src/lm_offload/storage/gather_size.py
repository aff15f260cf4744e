"""How rows of an embedding table are read from disk, and the memory that this takes."""

from __future__ import annotations

from lm_offload.units import KIB, PAGE_BYTES, align_up

MERGE_GAP_BYTES = 64 * KIB
PIECE_BYTES = 256 * KIB  # of one request; each thread has a buffer of this size
GATHER_THREADS = 8  # with the one that wants the rows


def request_bytes(row_bytes: int) -> int:
    """Most bytes that are read for one row: rows do not begin with pages."""
    return align_up(row_bytes + PAGE_BYTES)


def gather_bytes(table_bytes: int, rows: int) -> int:
    """Most bytes of read buffers that a gather of `rows` rows needs at once."""
    return min(GATHER_THREADS, rows) * min(PIECE_BYTES, align_up(table_bytes) + 2 * PAGE_BYTES)
