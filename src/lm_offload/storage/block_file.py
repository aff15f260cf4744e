"""A file with one block of keys and values: a header that says whose it is, then its bytes."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

MAGIC = b"LMOKV001"  # the last digits are the version of header and layout
HEADER = struct.Struct("<8s16s16sQI")  # magic, owner, key, bytes of the block and their CRC-32


def write_block(path: Path, owner: bytes, key: bytes, data: bytes) -> None:
    """Write beside `path` and rename, so that nobody reads half of it; raises OSError.

    It need not reach the disk now: what a power failure leaves of it has another checksum.
    """
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("wb") as file:
            file.write(HEADER.pack(MAGIC, owner, key, len(data), zlib.crc32(data)))
            file.write(data)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def read_block(path: Path, owner: bytes, key: bytes, size_bytes: int) -> bytes:
    """The bytes of a block; raises OSError, or ValueError for what is damaged or another's."""
    with path.open("rb") as file:
        header, data = file.read(HEADER.size), file.read(size_bytes + 1)
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # read once: leave no copy
    if len(data) != size_bytes:
        raise ValueError(f"{len(data)} bytes instead of {size_bytes}")
    if header != HEADER.pack(MAGIC, owner, key, size_bytes, zlib.crc32(data)):
        raise ValueError("header and data do not belong together")
    return data
