"""How much memory benchmarks of kernels walk through, so that it is no cache that they time."""

from __future__ import annotations

from pathlib import Path

from benchmarks.kernel_timing import LEAST_STREAMED_BYTES, STREAMED_BYTES, largest_cache_bytes


def test_the_largest_cache_is_the_one_that_counts(tmp_path: Path) -> None:
    for index, size in enumerate(("48K", "2048K", "266240K")):
        (tmp_path / f"index{index}").mkdir()
        (tmp_path / f"index{index}" / "size").write_text(f"{size}\n")
    assert largest_cache_bytes(tmp_path) == 260 << 20


def test_a_system_that_does_not_say_has_none(tmp_path: Path) -> None:
    assert largest_cache_bytes(tmp_path) == 0


def test_what_is_walked_through_exceeds_the_caches() -> None:
    assert max(LEAST_STREAMED_BYTES, 2 * largest_cache_bytes()) <= STREAMED_BYTES
