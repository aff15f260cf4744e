from __future__ import annotations

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from lm_offload.speculation.depths import Offer, choose_depths

OFFERS = st.lists(
    st.builds(Offer, st.floats(0.01, 0.99), st.integers(0, 4), st.just(0.0)), max_size=3
)


def rate(offers, depths, sequences, sweep_s) -> float:
    gains = (
        offer.chance**rank
        for offer, depth in zip(offers, depths, strict=True)
        for rank in range(1, depth + 1)
    )
    return (sequences + sum(gains)) / sweep_s(sum(depths))


@given(OFFERS, st.integers(0, 6), st.lists(st.floats(0, 1), min_size=6, max_size=6))
def test_no_other_depths_give_more_tokens_per_second(offers, most, steps):
    def sweep_s(rows: int) -> float:
        return 1.0 + sum(steps[:rows])

    sequences = max(len(offers), 1)
    found = choose_depths(offers, sequences, most, sweep_s)
    assert sum(found) <= most
    assert all(depth <= offer.limit for depth, offer in zip(found, offers, strict=True))
    others = product(*(range(offer.limit + 1) for offer in offers))
    best = max(rate(offers, it, sequences, sweep_s) for it in others if sum(it) <= most)
    assert rate(offers, found, sequences, sweep_s) >= best * (1 - 1e-9)


def test_free_rows_go_to_the_likeliest_tokens_until_there_are_no_more():
    offers = [Offer(0.55, 9), Offer(0.9, 9), Offer(0.0, 9)]
    assert choose_depths(offers, 3, 6, lambda rows: 1.0) == [1, 5, 0]
    assert choose_depths(offers, 3, 99, lambda rows: 1.0) == [9, 9, 0]


def test_rows_that_cost_more_than_they_bring_are_left_out():
    assert choose_depths([Offer(0.4, 9)], 1, 9, lambda rows: 1.0 + 0.5 * rows) == [0]
    assert choose_depths([Offer(0.6, 9)], 1, 9, lambda rows: 1.0 + 0.5 * rows) == [1]


def test_a_step_in_the_cost_is_crossed_where_what_lies_behind_it_pays():
    def sweep_s(rows: int) -> float:
        return 1.0 if rows == 0 else 1.9

    assert choose_depths([Offer(0.8, 9)], 1, 9, sweep_s) == [9]
    assert choose_depths([Offer(0.8, 1)], 1, 9, sweep_s) == [0]


def test_steps_of_a_draft_model_are_paid_once_for_all_sequences():
    def depths(count: int, step_s: float) -> list[int]:
        return choose_depths([Offer(0.8, 9, step_s)] * count, count, 99, lambda rows: 1.0)

    assert depths(1, 0.0) == [9]
    assert depths(1, 0.2) == [4]  # a fifth gains 0.8^5 and takes a tenth of the time so far
    assert depths(1, 0.9) == [0]
    assert depths(2, 0.2) == depths(1, 0.2) * 2
    free, dear = Offer(0.5, 9), Offer(0.8, 9, 0.9)
    assert choose_depths([free, dear], 2, 99, lambda rows: 1.0) == [9, 0]
