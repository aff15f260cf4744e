from __future__ import annotations

import pytest

from lm_offload.speculation.acceptance import Acceptance


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
