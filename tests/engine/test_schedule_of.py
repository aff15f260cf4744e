"""The schedule of a plan: where units lie in its ring."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from lm_offload.engine.expert_parts import schedule_of
from lm_offload.units import PAGE_BYTES

PAGES = (9, 9, 4, 9)  # of streamed units


@pytest.mark.parametrize("more_bytes", [0, 1, 4095])
def test_direct_reads_go_to_whole_pages_where_a_ring_has_others(more_bytes):
    """A plan that was edited may end its ring anywhere, and units may lie at the end of it."""
    names = [f"unit {number}" for number in range(len(PAGES))]
    layouts = [
        SimpleNamespace(name=name, size_bytes=pages * PAGE_BYTES)
        for name, pages in zip(names, PAGES, strict=True)
    ]
    files = SimpleNamespace(layouts=layouts, units=[SimpleNamespace(kind="mlp")] * len(PAGES))
    ring_bytes = 11 * PAGE_BYTES + more_bytes
    plan = SimpleNamespace(streamed=names, ring_bytes=ring_bytes, in_flight_bytes=2 * PAGE_BYTES)
    schedule = schedule_of(files, plan, None)
    places = {task.ring_offset for sweep in range(3) for task in schedule.reads(sweep)}
    assert 7 * PAGE_BYTES in places  # a unit of four pages at the end of eleven
    assert all(place % PAGE_BYTES == 0 for place in places)
