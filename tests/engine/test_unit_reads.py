"""Small units read by the engine's own queue."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from lm_offload.engine.unit_reads import UnitReads
from lm_offload.errors import StorageError
from lm_offload.storage.blocks import Block
from lm_offload.storage.direct_file import DirectFile
from lm_offload.units import PAGE_BYTES


def units_of(path: Path, count: int) -> list[list[Block]]:
    """Of two pages each, that share two places."""
    path.write_bytes(bytes(2 * count * PAGE_BYTES))
    file, memory = DirectFile(path), memoryview(bytearray(4 * PAGE_BYTES))
    blocks = [
        Block(file, at * PAGE_BYTES, memory[at % 4 * PAGE_BYTES :][:PAGE_BYTES])
        for at in range(2 * count)
    ]
    return [blocks[at : at + 2] for at in range(0, 2 * count, 2)]


def test_every_block_is_read_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Counter[int]()
    monkeypatch.setattr(
        DirectFile, "read_into", lambda file, to, at: (seen.update([at]), len(to))[1]
    )
    with closing(UnitReads()) as reads:
        sample = reads.sampler(units_of(tmp_path / "weights", 3), 2, 0.01)
        assert all(sample() > 0 for _ in range(3))
    assert set(seen) == {at * PAGE_BYTES for at in range(6)}
    assert max(seen.values()) - min(seen.values()) <= 1


def test_what_cannot_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(file: DirectFile, to: memoryview, at: int) -> int:
        raise StorageError("gone")

    monkeypatch.setattr(DirectFile, "read_into", fail)
    with closing(UnitReads()) as reads, pytest.raises(StorageError, match="gone"):
        reads.sampler(units_of(tmp_path / "weights", 3), 2, 0.01)()
