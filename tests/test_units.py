import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_offload.errors import ConfigError
from lm_offload.units import (
    align_down,
    align_up,
    format_bytes,
    format_rate,
    format_seconds,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("8GiB", 8 << 30),
        ("8G", 8 << 30),
        ("8GB", 8 * 10**9),
        ("500 MiB", 500 << 20),
        ("1.5k", 1536),
        ("2tb", 2 * 10**12),
        ("4096", 4096),
        (" 12B ", 12),
        ("0", 0),
    ],
)
def test_sizes_that_people_write(text, size_bytes):
    assert parse_size(text) == size_bytes


def test_a_share_needs_a_whole():
    assert parse_size("80%", 1000) == 800
    with pytest.raises(ConfigError, match=r"'80%' is not a size"):
        parse_size("80%")


@pytest.mark.parametrize("text", ["", "GiB", "-1GiB", "8 GiBs", "8,5G", "1e9", "8GiB 4", "nan"])
def test_what_is_no_size_is_refused_with_an_example(text):
    with pytest.raises(ConfigError, match="write for example 8GiB"):
        parse_size(text)


@given(st.text(max_size=12))
def test_no_text_gives_anything_but_bytes_or_a_config_error(text):
    with contextlib.suppress(ConfigError):
        assert parse_size(text, 1 << 30) >= 0


@given(st.integers(1, 1 << 45))
def test_formatted_bytes_read_back_within_a_percent(size_bytes):
    assert parse_size(format_bytes(size_bytes)) == pytest.approx(size_bytes, rel=0.01)


def test_durations_below_a_second_are_in_milliseconds():
    times = (0.0, 0.00123, 0.9999, 1.0, 61.5)
    wanted = ["0.00 ms", "1.23 ms", "999.90 ms", "1.00 s", "61.50 s"]
    assert [format_seconds(it) for it in times] == wanted


def test_format_rate_is_decimal():
    assert format_rate(1.6e9) == "1.60 GB/s"
    assert format_rate(3.2e6) == "0.0032 GB/s"


@given(st.integers(0, 1 << 40), st.sampled_from([64, 512, 4096]))
def test_alignment(value, alignment):
    assert align_down(value, alignment) <= value <= align_up(value, alignment)
    assert align_up(value, alignment) - align_down(value, alignment) in (0, alignment)
    assert align_up(value, alignment) % alignment == align_down(value, alignment) % alignment == 0
