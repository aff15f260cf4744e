"""Memory that probes take, and how fast it is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from lm_offload.hardware.memory_probe import (
    PIECE_BYTES,
    last_level_cache_bytes,
    measure_memory,
    probe_memory,
)
from lm_offload.units import MIB
from tests.hardware.probing import BUDGET_S, check


def test_memory_by_threads() -> None:
    curve = measure_memory(probe_memory(MIB), 3, 10 * BUDGET_S)
    check([curve])
    assert curve.sizes == (1.0, 2.0, 3.0)


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


def test_the_last_level_cache_is_the_largest(tmp_path: Path) -> None:
    assert last_level_cache_bytes(tmp_path) > 0
    for index, size in enumerate(("32K", "512K", "32768K", "48K")):
        (tmp_path / f"index{index}").mkdir()
        (tmp_path / f"index{index}" / "size").write_text(size + "\n")
    assert last_level_cache_bytes(tmp_path) == 32 * MIB
