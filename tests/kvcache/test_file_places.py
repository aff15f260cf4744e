"""Places in the file: nothing that somebody still wants is ever overwritten."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lm_offload.kvcache.file_places import FilePlaces

BLOCKS = 4
NUMBERS = st.integers(0, BLOCKS - 1)
STEPS = st.tuples(st.sampled_from(["keep", "give", "renew"]), NUMBERS, NUMBERS)


def test_without_slots_every_block_is_where_its_number_says():
    places = FilePlaces(BLOCKS)
    places.renew(range(BLOCKS))
    np.testing.assert_array_equal(places.of, range(BLOCKS))


@given(st.lists(STEPS, max_size=60))
def test_what_is_kept_is_what_was_there(steps):
    """Each number that is handed out anew writes something new; full blocks never change."""
    places, file, number_of_writes = FilePlaces(BLOCKS), dict[int, int](), 0
    wanted, kept = dict[int, int](), dict[int, int]()

    def write(number: int) -> None:
        nonlocal number_of_writes
        number_of_writes += 1
        wanted[number] = file[int(places.of[number])] = number_of_writes

    for number in range(BLOCKS):
        write(number)
    for name, number, slot in steps:
        if name == "keep":
            places.keep(number, slot)
            kept[slot] = wanted[number]
        elif name == "give" and slot in kept:
            places.give(slot, number)
            wanted[number] = kept[slot]
        elif name == "renew":
            places.renew([number])
            write(number)
        assert {number: file[int(places.of[number])] for number in range(BLOCKS)} == wanted
        assert set(places.of) <= set(range(2 * BLOCKS))
