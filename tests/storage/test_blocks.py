"""How a unit is cut into requests."""

from __future__ import annotations

import pytest

from lm_offload.storage.blocks import LEAST_BLOCK_BYTES, block_bytes_of, reader_threads
from lm_offload.units import MIB, PAGE_BYTES


@pytest.mark.parametrize(
    ("unit_bytes", "concurrency", "wanted"),
    [
        (64 * MIB, 2, 8 * MIB),  # more than all readers take at once
        (6 * MIB, 2, 3 * MIB),
        (6 * MIB + 1, 2, 3 * MIB + PAGE_BYTES),
        (6 * MIB, 1, 6 * MIB),
        (4 * PAGE_BYTES, 4, LEAST_BLOCK_BYTES),
    ],
)
def test_every_reader_gets_a_part_of_a_small_unit(unit_bytes, concurrency, wanted):
    assert block_bytes_of(unit_bytes, 8 * MIB, concurrency) == wanted


def test_no_block_is_larger_than_asked_for():
    assert block_bytes_of(MIB, PAGE_BYTES, 2) == PAGE_BYTES


@pytest.mark.parametrize(
    ("unit_bytes", "wanted"), [(0, 2), (MIB, 2), (32 * MIB - 1, 2), (32 * MIB, 3), (512 * MIB, 3)]
)
def test_units_of_many_blocks_have_one_more_reader(unit_bytes: int, wanted: int) -> None:
    assert reader_threads(unit_bytes, 8 * MIB, 2) == wanted
