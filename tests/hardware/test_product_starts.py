"""What products take beside their weights."""

from __future__ import annotations

import pytest
from torch import Tensor

from lm_offload.hardware import timing
from lm_offload.hardware.memory_probe import probe_memory
from lm_offload.hardware.product_starts import ProductStarts
from lm_offload.kernels.base import Kernels
from lm_offload.units import MIB


class LateProducts:
    """Products that take 1 ns a weight, after `start_s`."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.start_s = 5e-6

    def record(self) -> None:
        """Nothing is written down."""

    def linear(self, x: Tensor, weight: Tensor, out: Tensor) -> None:
        self.now_s += self.start_s + 1e-9 * x.shape[1] * out.shape[1]


def test_the_start_is_that_of_the_median_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = LateProducts()
    monkeypatch.setattr(timing.time, "perf_counter", lambda: kernels.now_s)
    starts = ProductStarts((128, 256))
    assert starts.beside_s(1e-6) == 0.0
    for kernels.start_s in (5e-6, 80e-6, 6e-6):  # among other work in the second
        starts.measure(kernels, probe_memory(MIB), 0.1)
    assert starts.beside_s(1e-6) == pytest.approx(5e-6)


def test_without_time_for_two_sizes_nothing_is_known(kernels: Kernels) -> None:
    starts = ProductStarts()
    starts.measure(kernels, probe_memory(MIB), 0.0)
    assert starts.beside_s(0.0) == 0.0
