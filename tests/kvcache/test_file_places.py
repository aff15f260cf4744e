"""Places in the file: nothing that somebody still wants is ever overwritten."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lm_offload.kvcache.file_places import FilePlaces
from lm_offload.kvcache.file_runs import Run, cut_in_file, runs_of

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


def test_runs_are_cut_where_the_file_does_not_go_on():
    places = np.array([0, 1, 5, 6, 7, 8, 3])
    found = list(cut_in_file([Run(0, 10, 2), Run(1, 20, 6)], places, border=7))
    assert found == [Run(0, 10, 2), Run(1, 20, 1), Run(2, 21, 2), Run(4, 23, 2), Run(6, 25, 1)]


def test_runs_are_numbers_that_follow_one_another():
    assert runs_of([3, 4, 9, 8], 2) == [Run(3, 2, 2), Run(9, 4, 1), Run(8, 5, 1)]
    assert runs_of([], 2) == []
