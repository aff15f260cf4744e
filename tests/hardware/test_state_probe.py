"""The gated delta rule of recurrent layers."""

from __future__ import annotations

import torch

from lm_offload.hardware.state_probe import STATE_VALUES, measure_states, state_work
from lm_offload.kernels.base import Kernels
from lm_offload.storage.arena import MemoryTier
from lm_offload.units import MIB
from tests.hardware.probing import BUDGET_S, check


def test_states(kernels: Kernels) -> None:
    arena = MemoryTier("CPU", 4 * MIB).allocate("probe", 4 * MIB)
    found = measure_states(kernels, arena, (1, 3), 1e-6, BUDGET_S)
    assert found is not None
    assert set(found.sizes) <= {1.0, 3.0}
    check([found])


def test_little_memory_holds_no_state(kernels: Kernels) -> None:
    arena = MemoryTier("CPU", MIB).allocate("probe", MIB)
    assert measure_states(kernels, arena, (1,), 1e-6, BUDGET_S) is None


def test_each_call_moves_the_next_state_by_numbers_of_usual_size(kernels: Kernels) -> None:
    """What shrinks from call to call ends as subnormal numbers, slow on some processors."""
    states = torch.zeros(2, 32, 128, 128)
    assert states[0].numel() == STATE_VALUES
    for rows in (1, 2):
        work = state_work(kernels, states.zero_(), rows)
        states.zero_()  # a recording makes its call
        work()
        assert [bool(state.any()) for state in states] == [True, False]
        for _ in range(15):
            work()
        assert all(1e-4 < state.abs().mean() < 1 for state in states)
