"""The GPU benchmark runs from end to end on the stand-in."""

from __future__ import annotations

from benchmarks.gpu.__main__ import Case, format_row, measure


def test_a_case_on_the_stand_in(toy):
    row = measure(toy("llama"), Case("1MiB", 2, 8, 4), "standin:500MB/s", "64MiB")
    assert "error" not in row, row
    assert row["decode_tokens_per_s"] > 0
    assert 0 < row["gpu_busy_frac"] <= 1
    assert row["units_on_device"] + row["units_on_host"] + row["units_on_disk"] == 9
    assert "tok/s" in format_row(row)


def test_a_budget_that_is_too_small_is_a_row_with_its_error(toy):
    row = measure(toy("llama"), Case("64KiB", 2, 8, 4), "standin:500MB/s", "64MiB")
    assert "the smallest that work" in row["error"]
    assert row["error"] in format_row(row)
