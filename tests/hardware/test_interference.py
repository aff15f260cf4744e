"""What disk and CPU leave one another, of visits of which some were disturbed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lm_offload.hardware import interference_probe
from lm_offload.hardware.clock import Clock
from lm_offload.hardware.disk_reader import DiskReader, Way
from lm_offload.hardware.interference_probe import Beside
from lm_offload.hardware.interference_visits import InterferenceVisits
from lm_offload.hardware.memory_probe import probe_memory
from lm_offload.kernels.resolve import resolve_kernels
from lm_offload.storage.direct_file import DirectFile
from lm_offload.units import KIB, MIB
from tests.hardware.probing import BUDGET_S
from tests.hardware.profiles import TINY_EFFORT
from tests.hardware.watches import quiet_watch

WAY = Way(256 * KIB, 1)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[DiskReader]:
    path = tmp_path / "weights"
    path.write_bytes(bytes(MIB))
    file = DirectFile(path)
    with DiskReader(file, probe_memory(MIB).buffer) as reader:
        reader.read_first(WAY, BUDGET_S)
        yield reader
    file.close()


def test_what_is_left_is_typical_of_all_visits(
    reader: DiskReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    byte_s, call_s = iter((1.0, 1.0, 1.0, 4.0, 1.0, 1.25)), iter((1.0, 1.1, 1.0, 5.0, 1.0, 1.2))
    monkeypatch.setattr(reader, "sampler", lambda *of: lambda: next(byte_s))
    monkeypatch.setattr(interference_probe, "repeated_s", lambda *of: next(call_s))
    beside = Beside(reader, WAY)
    for _ in range(3):  # alone and together in each; the second among other work
        beside.visit(lambda: None, 0.0)
    left = beside.interference
    assert left.disk_read_while_computing_frac == pytest.approx(1 / 1.25)
    assert left.compute_while_reading_frac == pytest.approx(1 / 1.2)
    assert beside.lost_byte_s == pytest.approx((1 - 1 / 1.2) * 1.25)


def test_visits_come_before_the_stages_that_are_left(
    reader: DiskReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = list[float]()
    monkeypatch.setattr(Beside, "visit", lambda self, call, seconds: seen.append(call()))
    effort = replace(TINY_EFFORT, interference_visits=3)
    clock = Clock(effort, lambda *of: None, quiet_watch())
    arena = probe_memory(2 * MIB)
    visits = InterferenceVisits(reader, WAY, resolve_kernels(1), arena, effort, clock)
    assert not seen
    for stage in ("products", "attention", "threads"):
        clock.budget_s(stage)
    assert len(seen) == 4  # two visits, each with products and with calls
    visits.visit()
    assert len(seen) == 6
