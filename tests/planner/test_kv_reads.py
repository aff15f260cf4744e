"""Seconds of reads of a KV cache that lies on disk."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lm_offload.hardware.curve import Curve
from lm_offload.plan import KVSpill
from lm_offload.planner.costs.sweep_shape import Piece, SweepShape
from lm_offload.planner.sweeps.kv_reads import SpillCosts
from tests.planner.machines import PLAIN
from tests.planner.test_unit_cost import sizes

SHAPE = SweepShape((Piece(4, 1, 65),), 4)  # four blocks of each sequence are in the file
LAYER_BLOCKS = 5  # of a sequence, in memory


def read_s(group_blocks: int, ring_groups: int, burst_bytes_per_s: float | None) -> float:
    """Of one layer, from a disk that otherwise reads a gigabyte a second."""
    burst = Curve((1.0,), (burst_bytes_per_s,)) if burst_bytes_per_s else None
    disk = replace(PLAIN.disk_read, bytes_per_s=Curve((1.0,), (1e9,)), burst_bytes_per_s=burst)
    spill = KVSpill((0,), group_blocks, ring_groups * group_blocks)
    costs = SpillCosts(sizes(), replace(PLAIN, disk_read=disk), spill, 1 << 30)
    return costs.layer(SHAPE, None).read_s


@pytest.mark.parametrize("group_blocks", [LAYER_BLOCKS, 4 * LAYER_BLOCKS])
def test_groups_whose_readers_fell_asleep_are_read_as_slowly_as_units_alone(
    group_blocks: int,
) -> None:
    queued_s = read_s(group_blocks, 2, None)
    assert read_s(group_blocks, 2, 1e8) == pytest.approx(10 / 2 * queued_s)
    assert read_s(group_blocks, 4, 1e8) == pytest.approx(10 / 4 * queued_s)


def test_groups_are_read_no_faster_than_the_disk_reads() -> None:
    assert read_s(LAYER_BLOCKS, 2, 1e10) == read_s(LAYER_BLOCKS, 2, None)
