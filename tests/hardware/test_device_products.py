"""Where the two ways of packed products cross."""

from __future__ import annotations

import pytest

from lm_offload.hardware.device_products import crossing


@pytest.mark.parametrize(
    ("as_it_is", "as_floats", "few_rows"),
    [((1, 2, 4), (3, 3, 3), 16), ((1, 2, 3), (9, 9, 9), 32), ((4, 4, 4), (3, 3, 3), 1)],
)
def test_packed_products_are_switched_where_their_times_cross(as_it_is, as_floats, few_rows):
    seconds = {}
    for rows, first_s, second_s in zip((8, 16, 32), as_it_is, as_floats, strict=True):
        seconds |= {(rows, True): first_s, (rows, False): second_s}
    assert crossing(seconds) == few_rows
    assert crossing({**seconds, (64, True): 1}) == few_rows  # for more there was no time
