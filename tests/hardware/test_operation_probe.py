"""Elementwise kernels."""

from __future__ import annotations

import torch

from lm_offload.hardware.measured_work import OPERATIONS
from lm_offload.hardware.operation_probe import measure_operations
from lm_offload.kernels.base import Kernels
from lm_offload.kernels.torch_kernels import TorchKernels
from tests.hardware.probing import check


class RotatedTensors(TorchKernels):
    """Remembers what was rotated."""

    def __init__(self) -> None:
        super().__init__(1)
        self.seen: list[torch.Tensor] = []

    def rotary(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> None:
        super().rotary(x, cos, sin)
        self.seen.append(x)


def nothing() -> None:
    """No other work."""


def test_what_operations_are_measured_on_stays_of_usual_size() -> None:
    """What shrinks from call to call ends as subnormal numbers, slow on some processors."""
    kernels = RotatedTensors()
    measure_operations(kernels, (1,), nothing, 1e-6, 0.2)
    assert len(kernels.seen) > 20
    assert 0.1 < kernels.seen[-1].abs().mean() < 1.0
    assert kernels.seen[-1].abs().max() < 2.0


def test_operations(kernels: Kernels) -> None:
    others: list[int] = []
    curves = measure_operations(kernels, (1, 20), lambda: others.append(1), 1e-6, 0.05)
    assert others
    assert set(curves) <= set(OPERATIONS)
    assert "rms_norm" in curves
    check(curves.values())
