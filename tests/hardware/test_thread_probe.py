"""How much faster than on one thread."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from lm_offload.hardware.measured_work import THREADED_WORK
from lm_offload.hardware.memory_probe import probe_memory
from lm_offload.hardware.thread_probe import measure_speedups
from lm_offload.kernels.base import Kernels
from lm_offload.kernels.resolve import resolve_kernels
from lm_offload.kernels.torch_kernels import TorchKernels
from lm_offload.units import MIB
from tests.hardware.probing import check


@pytest.mark.parametrize("make", [resolve_kernels, TorchKernels])
def test_speed_by_threads(make: Callable[[int], Kernels]) -> None:
    speedups = measure_speedups(make(3), probe_memory(2 * MIB), 0.6)
    assert tuple(speedups) == THREADED_WORK
    check(speedups.values())
    assert all(curve.sizes[0] == 1.0 and curve.at(1) == 1.0 for curve in speedups.values())
    assert speedups["cached_product_row"].sizes == (1.0, 2.0, 3.0)
    assert make is resolve_kernels or torch.get_num_threads() == 3
