"""Reads of files of any size, and what is made of their times."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch

from lm_offload.engine.unit_reads import UnitReads
from lm_offload.hardware.disk_probe import ALL_WAYS, FEW_WAYS, LATENCY, PREFERRED, DiskProbe
from lm_offload.hardware.disk_reader import DiskReader, Way
from lm_offload.hardware.interference_probe import measure_block_s, measure_interference
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
    with DiskReader(file, memory.buffer) as reader, closing(UnitReads()) as reads:
        probe = DiskProbe(reader, ways, BUDGET_S, reads.sampler)
        probe.visit()
        link = probe.link
        assert reader.known_bytes == file_bytes
        interference = measure_interference(reader, LATENCY, torch.ones(9).sum, BUDGET_S)
        block_s = measure_block_s(reader, 2, torch.ones(9).sum, BUDGET_S)
    file.close()
    check([link.bytes_per_s])
    assert link.bytes_per_s.sizes[0] == PAGE_BYTES
    assert link.first_bytes_per_s > 0
    assert link.request_s > 0
    assert Way(link.block_bytes, link.concurrency) in ways
    assert 0 < interference.compute_while_reading_frac <= 1
    assert 0 <= block_s < 1
    assert 0 < interference.disk_read_while_computing_frac <= 1


@pytest.mark.parametrize(("size", "places"), [(MIB, 4), (256 * KIB, 4), (4 * MIB, 1)])
def test_small_units_share_a_ring_of_two(tmp_path: Path, size: int, places: int) -> None:
    path = tmp_path / "weights"
    path.write_bytes(bytes(8 * MIB))
    file, memory = DirectFile(path), probe_memory(4 * MIB)
    with DiskReader(file, memory.buffer) as reader:
        reader.known_bytes = 8 * MIB
        units = reader.units(Way(size, 2))
    file.close()
    assert {len(unit) for unit in units} == {2}
    blocks = [block for unit in units for block in unit]
    assert [block.file_offset for block in blocks] == [*range(0, 8 * MIB, size)]
    at = {np.frombuffer(block.memory, np.uint8).ctypes.data for block in blocks}
    assert len(at) == places


def test_units_come_at_the_typical_rate_of_all_visits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights"
    path.write_bytes(bytes(3 * MIB))
    file, memory, now = DirectFile(path), probe_memory(4 * MIB), [1.0]
    monkeypatch.setattr(DiskReader, "sampler", lambda *of: lambda: now[0])
    monkeypatch.setattr(DiskReader, "burst_sampler", lambda *of: lambda: 2 * now[0])
    with DiskReader(file, memory.buffer) as reader:
        probe = DiskProbe(reader, FEW_WAYS, BUDGET_S, lambda *of: lambda: 3 * now[0], visits=3)
        for now[0] in (4.0, 0.5, 2.0):  # a slow moment, a fast one, the usual one
            probe.visit()
        link = probe.link
    file.close()
    assert link.bytes_per_s.at(8 * MIB) == 0.5
    assert [link.bytes_per_s.at(size) for size in (256 * KIB, MIB)] == [pytest.approx(1 / 6)] * 2
    assert link.bytes_per_s.at(PAGE_BYTES) == 1.0  # of which there was one moment
    assert link.burst_bytes_per_s.at(MIB) == 0.25


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
