from __future__ import annotations

from itertools import pairwise

import pytest

from lm_offload.speculation.acceptance import (
    FIRST_DEPTH,
    HOPED_CHANCE,
    PATIENCE,
    Acceptance,
    ModelAcceptance,
)


def test_nothing_is_hoped_for_before_anything_is_seen():
    assert [Acceptance().chance(length) for length in (2, 4, 8, 16)] == [0, 0, 0, 0]


def test_longer_matches_are_as_good_as_shorter_ones_until_they_are_seen():
    found = Acceptance()
    found.observe(4, right=1, tried=1)
    assert found.chance(2) == 0 < 0.5 < found.chance(4) == found.chance(16)
    found.observe(16, right=0, tried=8)
    assert found.chance(16) < 0.1 < found.chance(8) == found.chance(4)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_what_is_seen_replaces_the_prior(share):
    found = Acceptance()
    for _ in range(50):
        found.observe(4, right=round(share * 4), tried=4)
    assert found.chance(4) == found.chance(5) == pytest.approx(share, abs=0.03)


def test_one_success_after_many_failures_is_seen():
    found = Acceptance()
    for _ in range(100):
        found.observe(3, right=0, tried=1)
    assert found.chance(3) == 0
    found.observe(3, right=1, tried=1)
    assert 0.03 < found.chance(3) < 0.05


def test_a_draft_model_is_hoped_for_and_then_measured():
    found = ModelAcceptance()
    assert (found.chance, found.most) == (HOPED_CHANCE, FIRST_DEPTH)
    for _ in range(20):
        found.observe(right=4, tried=5)
    assert found.chance == pytest.approx(0.8, abs=0.02)
    assert found.most > 16


def test_a_draft_model_that_is_wrong_is_tried_again_ever_more_seldom():
    found, tried_at = ModelAcceptance(), []
    for sweep in range(40 * PATIENCE):
        tries = found.chance > 0.3
        found.observe(0, int(tries))
        tried_at += [sweep] * tries
    pauses = [after - before for before, after in pairwise(tried_at)]
    longer = [pause for pause in pauses if pause > 1]
    assert longer == [PATIENCE * 2**exponent + 1 for exponent in range(len(longer))]
    assert len(tried_at) < 3 * (len(longer) + 1)
