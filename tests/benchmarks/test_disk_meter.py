from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.disk_meter import WAYS, DiskMeter
from benchmarks.testbed import direct_read_table

from lm_offload.errors import StorageError
from lm_offload.hardware.disk_reader import DiskReader
from lm_offload.units import MIB


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    path.write_bytes(bytes(3 * MIB + 5))
    return path


def test_every_way_is_timed_and_the_best_is_the_rate(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = {way: 1e9 * (index + 1) for index, way in enumerate(WAYS)}
    monkeypatch.setattr(DiskReader, "sampler", lambda self, way, seconds: lambda: 1 / rates[way])
    meter = DiskMeter(file)
    assert meter.read() == pytest.approx(rates)
    assert meter.best_bytes_per_s() == pytest.approx(max(rates.values()))


def test_a_file_smaller_than_a_block_is_read(file: Path) -> None:
    assert DiskMeter(file).best_bytes_per_s() > 0


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="nothing"):
        DiskMeter(tmp_path / "nothing")


def test_the_test_bed_names_the_ways(file: Path) -> None:
    table = direct_read_table(file)
    assert table["best"] == max(table[name] for name in ("2x8MiB", "2x4MiB", "4x4MiB", "4x2MiB"))
