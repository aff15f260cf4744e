"""A file is written to be measured, and goes when that is done."""

from __future__ import annotations

from pathlib import Path

import pytest

from lm_offload.errors import ConfigError
from lm_offload.hardware.disk_writes import measure_writes, temporary_file
from lm_offload.units import MIB, PAGE_BYTES
from tests.hardware.probing import BUDGET_S, check


def test_writes_leave_a_file_that_can_be_read_and_then_nothing(tmp_path: Path) -> None:
    with temporary_file(tmp_path / "new") as path:
        link = measure_writes(path, 3 * MIB, BUDGET_S)
        assert 0 < path.stat().st_size <= 3 * MIB
        assert path.read_bytes()[-PAGE_BYTES:] != bytes(PAGE_BYTES)
    check([link.bytes_per_s])
    assert list((tmp_path / "new").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="--disk-path"), temporary_file(tmp_path / "file"):
        pass


def test_an_interruption_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), temporary_file(tmp_path):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_is_an_error_in_one_sentence(tmp_path: Path) -> None:
    with temporary_file(tmp_path) as path, pytest.raises(ConfigError, match="cannot be written"):
        measure_writes(path, 1 << 60, BUDGET_S)
