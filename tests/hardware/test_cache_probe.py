"""What the last-level cache keeps, whatever memory there is."""

from __future__ import annotations

import pytest

from lm_offload.hardware.cache_probe import falling, measure_cache
from lm_offload.hardware.memory_probe import probe_memory
from lm_offload.kernels.base import Kernels
from lm_offload.units import MIB
from tests.hardware.probing import BUDGET_S


@pytest.mark.parametrize("memory_bytes", [MIB, 8 * MIB])
@pytest.mark.parametrize("budget_s", [0.0, BUDGET_S])
def test_the_cache(kernels: Kernels, memory_bytes: int, budget_s: float) -> None:
    found = measure_cache(kernels, probe_memory(memory_bytes), 1e-6, budget_s)
    assert 0 < found.cache_bytes <= memory_bytes
    assert 0 <= found.start_s < 1
    curve = found.bytes_per_s
    if curve is not None:
        assert curve.sizes[0] <= found.cached_bytes
        assert curve.sizes[-1] == memory_bytes
        assert [*curve.rates] == sorted(curve.rates, reverse=True)


def test_a_stall_at_one_size_is_one_at_all_larger_ones_at_most() -> None:
    curve = falling({1: 0.25, 2: 0.5, 4: 0.4, 8: 1.0})
    assert curve is not None
    assert curve.rates == (4.0, 2.0, 2.0, 1.0)
    assert falling({1: 0.5, 2: 0.5}) is None
