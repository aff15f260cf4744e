"""Who stays in memory: those that are used, and nobody is lost where all are used alike."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_offload.schedule.kept_experts import KeptExperts

EXPERTS = 8


def kept_of(homes: int, experts: int = EXPERTS) -> KeptExperts:
    return KeptExperts([10] * experts, range(homes))


def use(kept: KeptExperts, chosen: set[int]) -> int:
    """Use some as a sweep does; returns how many were in memory."""
    missing = kept.use(chosen)
    for expert in chosen:
        kept.arrived(expert)
    return len(chosen) - len(missing)


def hits(kept: KeptExperts, sweeps: list[set[int]]) -> float:
    return sum(use(kept, chosen) for chosen in sweeps) / sum(map(len, sweeps))


chosen_sets = st.lists(st.sets(st.integers(0, EXPERTS - 1)), max_size=30)
sizes_lists = st.lists(st.integers(1, 3), min_size=EXPERTS, max_size=EXPERTS)


@given(chosen_sets, sizes_lists, st.sets(st.integers(0, EXPERTS - 1)), st.data())
def test_a_home_has_one_owner_and_room_for_it_and_who_is_used_keeps_it(
    sweeps, sizes, resident, data
):
    kept = KeptExperts(sizes, resident)
    room = {expert: sizes[expert] for expert in resident}  # of the home that each has
    arrived = set(resident)
    for chosen in sweeps:
        missing = kept.use(chosen)
        assert list(missing) == sorted(chosen - arrived)
        owners = [owner for owner in missing.values() if owner is not None]
        assert len(owners) == len(set(owners))
        assert not arrived & chosen & set(owners)
        left = {owner: room.pop(owner) for owner in owners}
        room |= {expert: left[owner] for expert, owner in missing.items() if owner is not None}
        assert all(sizes[expert] <= size for expert, size in room.items())
        arrived -= set(owners)
        done = {expert for expert in sorted(chosen) if data.draw(st.booleans())}  # or it is cut
        for expert in done:
            kept.arrived(expert)
        arrived |= done & room.keys()
        assert kept.resident == arrived


@pytest.mark.parametrize("homes", [2, 4, 6])
def test_even_routing_loses_nothing(homes):
    draw = random.Random(0)
    sweeps = [set(draw.sample(range(EXPERTS), 2)) for _ in range(4000)]
    assert hits(kept_of(homes), sweeps) == pytest.approx(homes / EXPERTS, abs=0.02)


@pytest.mark.parametrize("homes", [1, 3, 7])
def test_all_used_in_every_sweep_keep_their_places(homes):
    kept = kept_of(homes)
    assert hits(kept, [set(range(EXPERTS))] * 50) == homes / EXPERTS
    assert kept.resident == set(range(homes))


def test_one_after_the_other_leaves_half_of_them_in_memory():
    sweeps = [{sweep % EXPERTS} for sweep in range(40 * EXPERTS)]
    assert hits(kept_of(EXPERTS // 2), sweeps) > 0.45  # the last used would be found never


def test_one_that_is_used_for_ever_is_read_once():
    kept = kept_of(2)
    assert hits(kept, [{7}] * 50) == 49 / 50
    assert 7 in kept.resident


def test_skewed_routing_finds_the_ones_that_are_used():
    draw = random.Random(0)
    weights = [1, 1, 1, 1, 8, 8, 1, 1]
    sweeps = [set(draw.choices(range(EXPERTS), weights)) for _ in range(2000)]
    assert hits(kept_of(2), sweeps) > 0.65  # 16 of 22 uses at best, 2 of 22 fixed


def test_more_used_than_there_are_homes():
    kept = kept_of(1)
    missing = kept.use({3, 4, 5})
    assert list(missing.values()).count(None) == 2
    assert set(missing) == {3, 4, 5}


def test_without_homes_nobody_stays():
    assert hits(kept_of(0), [{1}, {1}, {1, 2}]) == 0


def test_who_did_not_arrive_is_read_again_into_the_home_that_is_free_first():
    kept = kept_of(1)
    assert kept.use({5}) == {5: 0}
    assert kept.resident == frozenset()
    assert kept.use({5}) == {5: 5}  # nothing arrived
    kept = kept_of(1)
    kept.use({5})
    assert kept.use({6}) == {6: 5}
    kept.arrived(6)
    assert kept.resident == {6}
