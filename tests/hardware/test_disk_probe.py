"""Reads of files of any size, and what is made of their times."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from lm_offload.hardware.disk_probe import ALL_WAYS, FEW_WAYS, LATENCY, PREFERRED, DiskProbe
from lm_offload.hardware.disk_reader import DiskReader, Way
from lm_offload.hardware.interference_probe import Beside
from lm_offload.hardware.memory_probe import probe_memory
from lm_offload.storage.direct_file import DirectFile
from lm_offload.units import KIB, MIB, PAGE_BYTES
from tests.hardware.probing import BUDGET_S, check


@pytest.mark.parametrize("file_bytes", [10, 3 * PAGE_BYTES + 5, 3 * MIB])
@pytest.mark.parametrize("memory_bytes", [1, 4 * MIB])
@pytest.mark.parametrize("ways", [(PREFERRED, LATENCY), FEW_WAYS])
def test_reads_of_any_file(
    tmp_path: Path, file_bytes: int, memory_bytes: int, ways: tuple[Way, ...]
) -> None:
    path = tmp_path / "weights"
    path.write_bytes(bytes(file_bytes))
    file, memory = DirectFile(path), probe_memory(memory_bytes)
    with DiskReader(file, memory.buffer) as reader:
        probe = DiskProbe(reader, ways, BUDGET_S)
        probe.visit()
        link = probe.link
        assert reader.known_bytes == file_bytes
        beside = Beside(reader, LATENCY)
        beside.visit(torch.ones(9).sum, BUDGET_S)
    file.close()
    check([link.bytes_per_s])
    assert link.bytes_per_s.sizes[0] == PAGE_BYTES
    assert link.first_bytes_per_s > 0
    assert link.request_s > 0
    assert Way(link.block_bytes, link.concurrency) in ways
    assert 0 < beside.interference.compute_while_reading_frac <= 1
    assert 0 <= beside.lost_byte_s < 1
    assert 0 < beside.interference.disk_read_while_computing_frac <= 1


@pytest.mark.parametrize(("ring_bytes", "places"), [(2 * MIB, 2), (16 * MIB, 4), (1, 1), (None, 4)])
def test_samples_read_into_a_ring_of_the_size_that_they_are_given(
    tmp_path: Path, ring_bytes: int | None, places: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights"
    path.write_bytes(bytes(8 * MIB))
    file, memory, seen = DirectFile(path), probe_memory(4 * MIB), set[int]()

    def read_into(target: memoryview, offset: int) -> int:
        seen.add(np.frombuffer(target, np.uint8).ctypes.data)
        return len(target)

    with DiskReader(file, memory.buffer) as reader:
        reader.read_first(Way(MIB, 2), BUDGET_S)
        reader.known_bytes = 8 * MIB
        monkeypatch.setattr(file, "read_into", read_into)
        reader.sampler(Way(MIB, 2), BUDGET_S, ring_bytes)()
    file.close()
    assert len(seen) == places


def test_units_come_at_the_typical_rate_of_all_visits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights"
    path.write_bytes(bytes(3 * MIB))
    file, memory, now = DirectFile(path), probe_memory(4 * MIB), [1.0]
    monkeypatch.setattr(DiskReader, "sampler", lambda *of, **how: lambda: now[0])
    slower = {4: 2, 5: 8}  # into small pages, which are given
    monkeypatch.setattr(
        DiskReader, "burst_sampler", lambda *of: lambda: slower[len(of) + 1] * now[0]
    )
    with DiskReader(file, memory.buffer) as reader:
        probe = DiskProbe(reader, FEW_WAYS, BUDGET_S, visits=3)
        for now[0] in (4.0, 0.5, 2.0):  # a slow moment, a fast one, the usual one
            probe.visit()
        link = probe.link
    file.close()
    assert [link.bytes_per_s.at(size) for size in (256 * KIB, MIB, 8 * MIB)] == [0.5] * 3
    assert link.bytes_per_s.at(PAGE_BYTES) == 1.0  # of which there was one moment
    assert link.burst_bytes_per_s.at(MIB) == 0.25
    assert link.small_pages_frac == 0.25


def test_blocks_of_units_have_the_rate_of_the_way_that_was_chosen() -> None:
    from lm_offload.hardware.disk_probe import _costs_by_size

    costs = {Way(MIB, 2): 3.0, Way(MIB, 8): 1.0, Way(PAGE_BYTES, 2): 9.0, Way(PAGE_BYTES, 8): 5.0}
    assert _costs_by_size(costs, Way(4 * MIB, 2)) == {MIB: 3.0, PAGE_BYTES: 5.0}
    assert _costs_by_size(costs, Way(4 * MIB, 4)) == {MIB: 1.0, PAGE_BYTES: 5.0}


def test_the_preferred_way_stays_unless_another_is_clearly_better() -> None:
    from lm_offload.hardware.disk_probe import _way_to_stream

    costs = dict.fromkeys(ALL_WAYS, 1.0)
    assert _way_to_stream({**costs, Way(MIB, 4): 0.95}) == PREFERRED
    assert _way_to_stream({**costs, Way(MIB, 4): 0.8}) == Way(MIB, 4)
    assert _way_to_stream({**costs, LATENCY: 0.1, Way(MIB, 1): 0.1}) == PREFERRED


@pytest.mark.parametrize(
    ("byte_s", "depth", "readers"),
    [
        ({2: 1.0, 4: 1.0, 8: 1.0}, 8, 2),
        ({2: 1.05, 4: 1.0, 8: 0.97}, 8, 2),
        ({2: 1.5, 4: 1.02, 8: 1.0}, 8, 4),
        ({2: 3.0, 4: 2.0, 8: 1.0}, 8, 8),
        ({2: 3.0, 4: 2.0, 8: 1.0}, 4, 4),  # no more than large blocks have
    ],
)
def test_small_units_have_the_fewest_readers_that_are_about_as_fast_as_any(
    byte_s: dict[int, float], depth: int, readers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lm_offload.hardware.disk_probe import _few_readers

    def sampler(self: DiskReader, size_bytes: int, way: Way) -> Callable[[], float]:
        return lambda: byte_s[way.depth]

    monkeypatch.setattr(DiskReader, "burst_sampler", sampler)
    reader = DiskReader.__new__(DiskReader)
    assert _few_readers(reader, Way(8 * MIB, depth), BUDGET_S) == readers


def test_a_small_unit_wakes_no_more_readers_than_it_has_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights"
    path.write_bytes(bytes(2 * MIB))
    file, memory, seen = DirectFile(path), probe_memory(4 * MIB), list[int]()
    with DiskReader(file, memory.buffer) as reader:
        reader.known_bytes = 2 * MIB
        sample = reader.burst_sampler(256 * KIB, PREFERRED._replace(depth=8))
        pool_map = reader._pool.map
        monkeypatch.setattr(
            reader._pool, "map", lambda work, over: seen.append(len(over)) or pool_map(work, over)
        )
        assert sample() > 0
    file.close()
    assert seen == [1]
