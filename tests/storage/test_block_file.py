from __future__ import annotations

import pytest

from lm_offload.storage.block_file import HEADER, read_block, write_block

OWNER, KEY, DATA = b"o" * 16, b"k" * 16, bytes(range(200))


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "block"
    write_block(path, OWNER, KEY, DATA)
    assert read_block(path, OWNER, KEY, len(DATA)) == DATA
    assert [entry.name for entry in tmp_path.iterdir()] == ["block"]


@pytest.mark.parametrize("place", [0, 9, 30, 40, 50, HEADER.size, HEADER.size + 199])
def test_any_wrong_byte_is_noticed(tmp_path, place):
    path = tmp_path / "block"
    write_block(path, OWNER, KEY, DATA)
    changed = bytearray(path.read_bytes())
    changed[place] ^= 1
    path.write_bytes(changed)
    with pytest.raises(ValueError, match="do not belong together"):
        read_block(path, OWNER, KEY, len(DATA))


@pytest.mark.parametrize("size", [0, 10, HEADER.size, HEADER.size + 199, HEADER.size + 201])
def test_other_lengths_are_noticed(tmp_path, size):
    path = tmp_path / "block"
    write_block(path, OWNER, KEY, DATA)
    path.write_bytes((path.read_bytes() + b"x")[:size])
    with pytest.raises(ValueError, match="bytes instead of 200"):
        read_block(path, OWNER, KEY, len(DATA))


def test_others_blocks_are_refused(tmp_path):
    path = tmp_path / "block"
    write_block(path, OWNER, KEY, DATA)
    for owner, key in ((b"x" * 16, KEY), (OWNER, b"x" * 16)):
        with pytest.raises(ValueError, match="do not belong"):
            read_block(path, owner, key, len(DATA))
