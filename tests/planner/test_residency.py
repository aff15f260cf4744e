from __future__ import annotations

import itertools

from hypothesis import example, given, settings
from hypothesis import strategies as st

from lm_offload.planner.costs.ring_depth import RingDepth
from lm_offload.planner.places.residency import Residency, choose_residency, residencies

SIZES = st.lists(st.integers(0, 50), min_size=1, max_size=24).filter(any)
LAYERS = st.tuples(st.integers(1, 40), st.integers(1, 60), st.integers(1, 30)).map(
    lambda shape: [0, *[shape[0], shape[1]] * shape[2], 1, *[min(shape[1], 9)] * 3]
)


def resident_bytes(sizes: list[int], chosen: Residency) -> int:
    return sum(sizes[unit] for unit in chosen.resident)


def ring_needed(sizes: list[int], chosen: Residency, depth: int) -> int:
    """The most that consecutive streamed units take, by trying every window of the cycle."""
    streamed = [size for unit, size in enumerate(sizes) if unit not in chosen.resident]
    depth = min(depth, len(streamed))
    windows = [(streamed * 2)[start : start + depth] for start in range(len(streamed))]
    return max((sum(window) for window in windows), default=0)


@given(SIZES, st.integers(0, 1300), st.integers(1, 3))
@example([10, 1, 1, 10, 1, 1], 20, 2)
def test_resident_units_and_ring_stay_within_the_budget(sizes, budget, depth):
    chosen = choose_residency(sizes, budget, RingDepth(depth))
    if chosen is None:
        assert budget < sum(sorted(sizes)[-depth:])
    else:
        assert resident_bytes(sizes, chosen) + chosen.ring_bytes <= budget
        assert chosen.ring_bytes >= ring_needed(sizes, chosen, depth)


@given(SIZES)
def test_the_largest_unit_is_the_smallest_budget(sizes):
    assert choose_residency(sizes, max(sizes), RingDepth(1)) is not None
    if max(sizes) < sum(sizes):
        assert choose_residency(sizes, max(sizes) - 1, RingDepth(1)) is None


@given(SIZES, st.integers(1, 3), st.integers(0, 100))
def test_what_fits_is_resident(sizes, depth, spare):
    chosen = choose_residency(sizes, sum(sizes) + spare, RingDepth(depth))
    assert chosen == Residency(frozenset(range(len(sizes))), 0)


@settings(max_examples=30)
@given(LAYERS, st.integers(1, 3))
def test_more_budget_streams_less_to_within_a_ring(sizes, depth):
    most, ring_bytes = 0, sum(sorted(sizes)[-depth:])  # another resident set needs another ring
    for budget in range(0, sum(sizes) + 8, 7):
        chosen = choose_residency(sizes, budget, RingDepth(depth))
        now = 0 if chosen is None else resident_bytes(sizes, chosen)
        assert now >= most - ring_bytes
        most = max(now, most)


@given(st.integers(4, 60), st.floats(0.05, 0.95))
def test_streamed_units_of_one_size_are_spread_evenly(count, share):
    sizes = [10] * count
    chosen = choose_residency(sizes, max(int(share * sum(sizes)), 10), RingDepth(1))
    assert chosen is not None
    streamed = [unit for unit in range(count) if unit not in chosen.resident]
    gaps = [after - unit for unit, after in itertools.pairwise(streamed)]
    assert max(gaps, default=0) - min(gaps, default=0) <= 1


@given(st.integers(4, 40), st.floats(0.1, 0.9))
def test_streamed_bytes_of_layers_are_spread_evenly(layers, share):
    sizes = [10, 30] * layers
    chosen = choose_residency(sizes, max(int(share * sum(sizes)), 40), RingDepth(1))
    assert chosen is not None
    streamed = [0 if unit in chosen.resident else size for unit, size in enumerate(sizes)]
    rate = sum(streamed) / sum(sizes)
    drift = sum_bytes = 0.0
    for size, read in zip(sizes, streamed, strict=True):
        sum_bytes += read - rate * size
        drift = max(drift, abs(sum_bytes))
    assert drift <= 3 * max(sizes)


@given(SIZES, st.integers(0, 1300), st.integers(1, 3))
def test_at_least_half_of_what_the_ring_leaves_is_used(sizes, budget, depth):
    chosen = choose_residency(sizes, budget, RingDepth(depth))
    if chosen is None or len(chosen.resident) == len(sizes):
        return
    left = budget - sum(sorted(sizes)[-depth:])
    smallest = min(size for unit, size in enumerate(sizes) if unit not in chosen.resident)
    assert resident_bytes(sizes, chosen) > left - smallest or resident_bytes(sizes, chosen) >= left


@given(SIZES | LAYERS, st.integers(0, 1300), st.integers(1, 3))
def test_every_order_stays_within_the_budget(sizes, budget, depth):
    found = [*residencies(sizes, budget, RingDepth(depth))]
    assert found[:1] == list(filter(None, [choose_residency(sizes, budget, RingDepth(depth))]))
    assert len(found) <= 3
    for chosen in found:
        assert resident_bytes(sizes, chosen) + chosen.ring_bytes <= budget
        assert chosen.ring_bytes >= ring_needed(sizes, chosen, depth)


def test_small_units_are_streamed_first_and_spread_or_large_ones() -> None:
    sizes = [0, *[10, 30] * 8, 1]
    even, small, large = residencies(sizes, 310, RingDepth(2))
    assert (even.order, small.order, large.order) == ("even", "small first", "large first")
    streamed = [unit for unit in range(len(sizes)) if unit not in small.resident]
    assert streamed == [3, 7, 11, 15]  # 281 stay, and a ring
    assert small.ring_bytes == 20
    streamed = [unit for unit in range(len(sizes)) if unit not in large.resident]
    assert streamed == [5, 6, 13, 14]  # two of 10 instead of a third one of 30


def test_units_of_a_few_pages_are_not_worth_a_read() -> None:
    sizes = [1, *[100, 300] * 4, 2]
    for chosen in [*residencies(sizes, 1400, RingDepth(1))][1:]:
        assert {0, 9} <= chosen.resident


def test_units_of_one_kind_may_differ_by_a_page() -> None:
    sizes = [100, 300, 101, 301, 102, 300]
    small = next(
        found for found in residencies(sizes, 1150, RingDepth(1)) if found.order == "small first"
    )
    assert small.resident == frozenset({1, 2, 3, 5})
