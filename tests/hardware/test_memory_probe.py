"""Memory that probes take, and how fast it is read."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

from lm_offload.hardware import memory_probe
from lm_offload.hardware.memory_probe import (
    FEWEST_TIMES,
    PIECE_BYTES,
    TIMES_CACHE,
    Touching,
    exceeds_cache,
    last_level_cache_bytes,
    mapped_memory,
    measure_memory,
    probe_memory,
)
from lm_offload.units import MIB
from tests.hardware.probing import BUDGET_S, check


def test_memory_by_threads() -> None:
    curve = measure_memory(probe_memory(MIB), 3, 10 * BUDGET_S)
    check([curve])
    assert curve.sizes == (1.0, 2.0, 3.0)
    assert measure_memory(probe_memory(MIB), 3, 0.0).sizes == (3.0,)


def test_probe_memory_keeps_its_limit() -> None:
    assert probe_memory(2 * MIB + 5).size_bytes == 2 * MIB
    assert probe_memory(0).size_bytes == MIB


class Fills(TorchFunctionMode):
    """Notes how many bytes each call fills."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.fill_:
            self.sizes.append(args[0].nbytes)
        return func(*args, **(kwargs or {}))


def test_probe_memory_is_touched_in_pieces_so_that_ctrl_c_is_heard() -> None:
    with Fills() as fills:
        arena = probe_memory(40 * MIB)
    assert sum(fills.sizes) == arena.size_bytes == 40 * MIB
    assert max(fills.sizes) <= PIECE_BYTES <= 16 * MIB  # touching a GiB takes seconds


def test_memory_is_touched_beside_other_work_until_that_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory_probe, "PIECE_BYTES", MIB)
    arena, other = (mapped_memory(8 * MIB, TIMES_CACHE) for _ in range(2))
    with closing(Touching(arena)) as touching:
        touching.begin()
        touching.wait()
    assert bool((arena.view(0, torch.float32, (2 * MIB,)) == 1.0).all())
    is_over = iter((False, False, True))
    memory_probe._touch(other, lambda: next(is_over))  # Ctrl-C is heard after the second piece
    assert other.view(0, torch.float32, (2 * MIB,)).count_nonzero() == 2 * MIB // 4


@pytest.mark.parametrize("times", [FEWEST_TIMES, TIMES_CACHE])
def test_probe_memory_is_as_many_times_the_cache_as_is_wanted(
    times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_probe, "last_level_cache_bytes", lambda: 2 * MIB)
    assert mapped_memory(64 * MIB, times).size_bytes == times * 2 * MIB
    assert exceeds_cache(times * 2 * MIB)
    assert mapped_memory(3 * MIB, times).size_bytes == 3 * MIB


def test_the_last_level_cache_is_the_largest(tmp_path: Path) -> None:
    assert last_level_cache_bytes(tmp_path) > 0
    for index, size in enumerate(("32K", "512K", "32768K", "48K")):
        (tmp_path / f"index{index}").mkdir()
        (tmp_path / f"index{index}" / "size").write_text(size + "\n")
    assert last_level_cache_bytes(tmp_path) == 32 * MIB
