"""Products of all formats in the time that there is."""

from __future__ import annotations

from typing import cast

import pytest
import torch

from lm_offload.hardware import product_stage, timing
from lm_offload.hardware.clock import Clock
from lm_offload.hardware.memory_probe import probe_memory
from lm_offload.hardware.product_probe import FORMATS
from lm_offload.hardware.product_stage import measure_products
from lm_offload.kernels.base import Kernels
from lm_offload.units import MIB
from tests.clock import FakeClock, fake_clock
from tests.hardware.probing import check
from tests.hardware.profiles import TINY_EFFORT
from tests.hardware.watches import quiet_watch


class Stalling:
    """Kernels whose first product takes all of the time."""

    threads = 1

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock

    def record(self) -> None:
        """Nothing is written down."""

    def linear(self, x: torch.Tensor, weight: torch.Tensor, out: torch.Tensor) -> None:
        self._clock.sleep(TINY_EFFORT.seconds)


def test_formats_that_a_stall_leaves_no_time_for_have_no_curve(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(product_stage, "MEMORY_SIZE", 256)  # so that all are side by side
    kernels = cast("Kernels", Stalling(fake_clock(monkeypatch, timing)))
    arena, clock = probe_memory(4 * MIB), Clock(TINY_EFFORT, lambda *_: None, quiet_watch())
    small = arena.slice(0, MIB)
    found = measure_products(kernels, small, arena, TINY_EFFORT, (0.0, 0.0), clock)
    assert [*found.uncached] == ["bf16"]
    assert [*found.cached] == [str(format) for format in FORMATS]
    check([*found.uncached.values(), *found.cached.values()])
