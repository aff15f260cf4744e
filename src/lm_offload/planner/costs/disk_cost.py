"""Seconds of reads of streamed units, in large blocks of which several are in flight."""

from __future__ import annotations

from lm_offload.hardware.link import Link


def read_s(link: Link, size_bytes: int, block_bytes: int) -> float:
    """Seconds that `size_bytes` add to a queue of reads that never runs dry."""
    return size_bytes / link.bytes_per_s.at(min(size_bytes, block_bytes)) if size_bytes else 0.0
