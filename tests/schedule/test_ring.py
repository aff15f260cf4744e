import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_offload.schedule.ring import Key, Ring

SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=60)


@given(SIZES, st.integers(0, 100))
def test_live_units_never_overlap_and_stay_inside(sizes, extra):
    ring = Ring(max(sizes) + extra)
    live = {}
    for unit, size in enumerate(sizes):
        offset, evicted = ring.place(Key(0, unit), size)
        for key in evicted:
            del live[key]
        assert 0 <= offset <= ring.capacity_bytes - size
        assert all(offset + size <= other.start or other.stop <= offset for other in live.values())
        live[Key(0, unit)] = range(offset, offset + size)


@given(SIZES, st.integers(0, 100))
def test_evicts_in_the_order_of_placing_and_each_unit_once(sizes, extra):
    ring = Ring(max(sizes) + extra)
    evicted = [key for unit, size in enumerate(sizes) for key in ring.place(Key(0, unit), size)[1]]
    assert evicted == [Key(0, unit) for unit in range(len(evicted))]


def test_wraps_as_in_the_picture():
    ring = Ring(10)
    assert [ring.place(Key(0, unit), size) for unit, size in enumerate((3, 4, 2))] == [
        (0, []),
        (3, []),
        (7, []),
    ]
    assert ring.place(Key(0, 3), 5) == (0, [Key(0, 0), Key(0, 1)])


def test_what_fits_beside_the_others_evicts_nothing():
    ring = Ring(12)
    assert all(not ring.place(Key(0, unit), 4)[1] for unit in range(3))
    assert ring.place(Key(0, 3), 4) == (0, [Key(0, 0)])


def test_refuses_a_unit_larger_than_itself():
    with pytest.raises(ValueError, match="11 bytes in a ring of 10"):
        Ring(10).place(Key(0, 0), 11)
