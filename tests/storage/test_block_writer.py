"""Blocks end at pages, hold what was written, and leave no room unreserved."""

from __future__ import annotations

import errno
import os
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_offload.storage import block_writer
from lm_offload.storage.block_writer import BlockWriter
from lm_offload.units import PAGE_BYTES, align_up

BLOCKS = st.lists(st.lists(st.binary(max_size=9000), max_size=4), min_size=1, max_size=3)


@settings(max_examples=30)
@given(BLOCKS, st.sampled_from([PAGE_BYTES, 4 * PAGE_BYTES]))
def test_blocks_hold_what_was_written(tmp_path, blocks, buffer_bytes):
    path = tmp_path / "data"
    wanted = [b"".join(parts) for parts in blocks]
    sizes = [align_up(len(data)) for data in wanted]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(block_writer, "BUFFER_BYTES", buffer_bytes)
        path.unlink(missing_ok=True)
        with BlockWriter(path, max(sum(sizes), PAGE_BYTES)) as writer:
            checksums = []
            for number, parts in enumerate(blocks):
                writer.begin(sum(sizes[:number]))
                for part in parts:
                    writer.write(memoryview(part))
                checksums.append(writer.end())
    padded = [data.ljust(size, b"\0") for data, size in zip(wanted, sizes, strict=True)]
    assert path.read_bytes()[: sum(sizes)] == b"".join(padded)
    assert checksums == [zlib.crc32(data) for data in padded]


def test_a_disk_that_cannot_hold_it_is_left_as_it_was(tmp_path, monkeypatch):
    def no_space(fd: int, offset: int, size_bytes: int) -> None:
        os.ftruncate(fd, size_bytes // 2)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", no_space)
    with pytest.raises(OSError, match="No space left"):
        BlockWriter(tmp_path / "data", 1 << 20)
    assert (tmp_path / "data").stat().st_size == 0


def test_the_room_is_reserved_at_once(tmp_path):
    with BlockWriter(tmp_path / "data", 1 << 20):
        assert os.stat(tmp_path / "data").st_blocks * 512 >= 1 << 20
