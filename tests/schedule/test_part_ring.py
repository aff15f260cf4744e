"""Where units in parts go, and what each part waits for; that nothing overlaps is in test_sweep."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_offload.schedule.part_ring import MOST_PARTS, Part, PartRing, parts_of
from lm_offload.schedule.ring import Key


def test_places_are_at_the_start_and_the_end_in_turns():
    """A ring for a unit and a part of another always has a part that can be read ahead."""
    ring = PartRing(50, in_flight_bytes=10)
    u0, u1, u2 = (Key(0, unit) for unit in range(3))
    assert ring.place(u0, 40) == (0, [Part(start, 10, None) for start in (0, 10, 20, 30)])
    offset, parts = ring.place(u1, 40)
    assert (offset, parts[0]) == (10, Part(30, 10, None))
    assert parts[1:] == [Part(start, 10, u0) for start in (0, 10, 20)]
    offset, parts = ring.place(u2, 40)
    assert (offset, parts[0]) == (0, Part(0, 10, None))
    assert parts[1:] == [Part(start, 10, u1) for start in (10, 20, 30)]


def test_a_part_waits_for_the_units_in_its_own_place_alone():
    ring = PartRing(45, in_flight_bytes=10)
    small = [Key(0, unit) for unit in range(3)]
    for key in small:
        ring.place(key, 15)
    offset, parts = ring.place(Key(0, 3), 40)
    assert offset == 0
    assert [part.gate for part in parts] == [small[0], small[1], small[1], small[2]]


def test_units_in_one_part_go_on_at_the_start():
    ring = PartRing(20, in_flight_bytes=100)
    places = [ring.place(Key(0, unit), 10) for unit in range(3)]
    assert [offset for offset, _ in places] == [0, 10, 0]
    assert places[2][1] == [Part(0, 10, Key(0, 0))]


def test_a_unit_larger_than_the_ring_is_refused():
    with pytest.raises(ValueError, match="21 bytes in a ring of 20"):
        PartRing(20, 4).place(Key(0, 0), 21)


@given(st.integers(1, 10**9), st.integers(1, 10**8))
def test_parts_are_the_whole_and_none_is_small(size_bytes, in_flight_bytes):
    parts = parts_of(size_bytes, in_flight_bytes)
    assert sum(parts) == size_bytes
    assert len(parts) <= MOST_PARTS
    assert min(parts) >= min(in_flight_bytes, size_bytes)
    assert all(part % in_flight_bytes == 0 for part in parts[:-1])
