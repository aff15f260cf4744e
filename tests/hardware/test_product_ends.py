"""What values of inputs and outputs take in products."""

from __future__ import annotations

import pytest
from torch import Tensor

from lm_offload.hardware import timing
from lm_offload.hardware.memory_probe import probe_memory
from lm_offload.hardware.product_ends import ENOUGH_TURNS, NO_ENDS, ProductEnds
from lm_offload.hardware.product_probe import PLAIN
from lm_offload.kernels.base import Kernels
from lm_offload.units import MIB
from tests.hardware.probing import BUDGET_S


class SlowEnds:
    """Products that take 1 ns a weight and row, 2 ns an input and 8 ns an output."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def record(self) -> None:
        """Nothing is written down."""

    def linear(self, x: Tensor, weight: Tensor, out: Tensor) -> None:
        (rows, inputs), outputs = x.shape, out.shape[1]
        self.now_s += 1e-9 * rows * (inputs * outputs + 2 * inputs + 8 * outputs)


def test_inputs_and_outputs_of_products_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = SlowEnds()
    monkeypatch.setattr(timing.time, "perf_counter", lambda: kernels.now_s)
    ends = ProductEnds()
    for _ in range(ENOUGH_TURNS):
        assert ends.of(PLAIN, 0.0) == NO_ENDS
        ends.measure(kernels, probe_memory(4 * MIB), PLAIN, 1.0)
    assert ends.of(PLAIN, 0.0) == pytest.approx((2e-9, 8e-9))


def test_where_there_is_no_room_for_them_nothing_is_known(kernels: Kernels) -> None:
    ends, arena = ProductEnds(), probe_memory(MIB).slice(0, MIB // 4)
    for _ in range(ENOUGH_TURNS):
        ends.measure(kernels, arena, PLAIN, BUDGET_S)
    assert ends.of(PLAIN, 0.0) == NO_ENDS
