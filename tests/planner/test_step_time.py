"""Predictions against what can be computed by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_offload.plan import MachineRates, Workload
from lm_offload.planner.simulator import steady_sweep_s
from lm_offload.planner.step_time import ModelCost, compute_s_of, workload_s

RATES = MachineRates(1e9, 1e10, 1e12, 1 << 20, 4)
TIMES = st.lists(st.floats(1e-4, 1e-2), min_size=1, max_size=12)


def test_few_rows_are_bound_by_memory_and_many_by_products():
    cost = ModelCost(weight_bytes=10**9, flops_per_row=10**9, num_units=0)
    assert compute_s_of(cost, RATES, 1, 1) == pytest.approx(0.1)
    assert compute_s_of(cost, RATES, 1000, 1) == pytest.approx(1.0)
    assert compute_s_of(cost, RATES, 1000, 20) == pytest.approx(2.0)


def test_sequences_that_do_not_fit_together_take_waves():
    workload = Workload((10,) * 10, (5,) * 10)
    assert workload_s(workload, 10, 1.0, 0.5) == pytest.approx(3.0)
    assert workload_s(workload, 4, 1.0, 0.5) == pytest.approx(9.0)


@given(TIMES)
def test_a_resident_sweep_takes_the_sum_of_its_units(compute_s):
    assert steady_sweep_s(0, {}, 1e9, compute_s) == pytest.approx(sum(compute_s))


@given(TIMES, st.integers(1, 10**7), st.integers(1, 4))
def test_a_streamed_sweep_takes_at_least_each_resource_and_at_most_both(compute_s, size, depth):
    streamed = dict.fromkeys(range(len(compute_s)), size)
    read_s = size * len(compute_s) / 1e9
    found = steady_sweep_s(size * depth, streamed, 1e9, compute_s)
    assert max(sum(compute_s), read_s) * 0.999 <= found <= (sum(compute_s) + read_s) * 1.001


def test_a_ring_of_two_hides_the_shorter_of_read_and_compute():
    streamed = dict.fromkeys(range(8), 10**6)  # 1 ms each
    assert steady_sweep_s(2 * 10**6, streamed, 1e9, [5e-4] * 8) == pytest.approx(8e-3, rel=0.3)
    assert steady_sweep_s(2 * 10**6, streamed, 1e9, [3e-3] * 8) == pytest.approx(24e-3, rel=0.01)
    assert steady_sweep_s(10**6, streamed, 1e9, [1e-3] * 8) == pytest.approx(16e-3, rel=0.01)
