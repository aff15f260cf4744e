from __future__ import annotations

import pytest

from lm_offload.speculation.acceptance import Acceptance, prior


def test_long_matches_promise_more_before_anything_is_seen():
    chances = [Acceptance().chance(length) for length in (2, 4, 8, 16)]
    assert chances == sorted(chances) == [prior(length) for length in (2, 4, 8, 16)]
    assert 0 < chances[0] < chances[-1] < 1


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_what_is_seen_replaces_the_prior(share):
    found = Acceptance()
    for _ in range(50):
        found.observe(4, right=round(share * 4), tried=4)
    assert found.chance(4) == pytest.approx(share, abs=0.03)
    assert found.chance(5) == found.chance(4)
    assert found.chance(8) == prior(8)


def test_one_success_after_many_failures_is_seen():
    found = Acceptance()
    for _ in range(100):
        found.observe(3, right=0, tried=1)
    assert found.chance(3) < 0.02
    found.observe(3, right=1, tried=1)
    assert found.chance(3) > 0.05
