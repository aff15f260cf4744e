"""Replays: the third time costs no Python, and gives what Python would have given."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lm_offload.kernels.base import Kernels
from lm_offload.kernels.onednn_kernels import OneDnnKernels
from lm_offload.kernels.torch_kernels import TorchKernels
from lm_offload.pipeline.replay import MOST_RECORDINGS, Place, Replays, SteadyTensors
from tests.kernels.implementations import native_kernels


class Unit:
    """A norm and two products, in buffers of its own; counts how often Python came by."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self.x, self.normed, self.out = torch.randn(3, 64), torch.empty(3, 64), torch.empty(3, 16)
        self.scale, self.weight = torch.ones(64), torch.randn(16, 64).to(dtype)
        self.calls = 0

    def compute(self, kernels: Kernels) -> None:
        self.calls += 1
        kernels.rms_norm(self.x, self.scale, 1e-6, self.normed)
        kernels.linear(self.normed, self.weight, self.out)
        kernels.linear_add(self.normed, self.weight, self.out)

    def result(self, replays: Replays, key: str = "unit") -> tuple[Tensor, Tensor]:
        """What a run on new input gives, and what it should."""
        self.x.normal_()
        replays.run(key, self.compute)
        expected = torch.nn.functional.rms_norm(self.x, (64,), eps=1e-6)
        return self.out.clone(), 2 * expected @ self.weight.float().T


@pytest.mark.parametrize("kernels", native_kernels(2), ids=lambda kernels: kernels.name)
def test_from_the_third_time_on_nobody_asks_python(kernels: Kernels) -> None:
    unit, replays = Unit(), Replays(kernels)
    for _ in range(5):
        torch.testing.assert_close(*unit.result(replays), atol=1e-4, rtol=1e-5)
    assert unit.calls == 2


def test_other_keys_are_other_recordings() -> None:
    one, other, replays = Unit(), Unit(), Replays(native_kernels(1)[0])
    for _ in range(4):
        torch.testing.assert_close(*one.result(replays, "one"), atol=1e-4, rtol=1e-5)
        torch.testing.assert_close(*other.result(replays, "other"), atol=1e-4, rtol=1e-5)
    assert one.calls == other.calls == 2


def test_after_something_moved_it_is_recorded_anew() -> None:
    unit, replays = Unit(), Replays(native_kernels(1)[0])
    for _ in range(3):
        unit.result(replays)
    unit.normed = torch.empty(3, 64)
    replays.forget()
    for _ in range(3):
        torch.testing.assert_close(*unit.result(replays), atol=1e-4, rtol=1e-5)
    assert unit.calls == 4


@pytest.mark.parametrize("kernels", native_kernels(2), ids=lambda kernels: kernels.name)
def test_weights_may_lie_elsewhere_every_time(kernels: Kernels) -> None:
    unit, replays = Unit(), Replays(kernels)
    ring = torch.empty(6, 17, 64)
    for at in (0, 3, 1, 5, 2):
        unit.scale, unit.weight = ring[at, 0].normal_(), ring[at, 1:].normal_()
        x = unit.x.normal_()
        replays.run("unit", unit.compute, Place(at * 17 * 64 * 4, 0))
        expected = 2 * torch.nn.functional.rms_norm(x, (64,), unit.scale, 1e-6) @ unit.weight.T
        torch.testing.assert_close(unit.out, expected, atol=1e-4, rtol=1e-5)
    assert unit.calls == 2


def test_recordings_are_bounded() -> None:
    unit, replays = Unit(), Replays(native_kernels(1)[0])
    for number in range(MOST_RECORDINGS + 1):
        replays.run(str(number), unit.compute)
    replays.run("0", unit.compute)  # forgotten, so this is the first time
    assert unit.calls == MOST_RECORDINGS + 2


def test_what_torch_computes_cannot_be_written_down() -> None:
    assert not Replays(TorchKernels(1)).possible
    assert TorchKernels(1).record() is None
    assert OneDnnKernels(TorchKernels(1), 4).record() is None


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_products_of_onednn_are_never_replayed(dtype: torch.dtype, rows: int) -> None:
    unit = Unit(dtype)
    replays = Replays(OneDnnKernels(native_kernels(1)[0], rows))
    for _ in range(4):
        torch.testing.assert_close(*unit.result(replays), atol=0.3, rtol=0.02)
    assert unit.calls == (4 if dtype is torch.bfloat16 else 2)


def test_tensors_keep_their_place_until_they_outgrow_it() -> None:
    moves: list[None] = []
    steady = SteadyTensors(lambda: moves.append(None), torch.device("cpu"))
    first = steady.place("slots", torch.arange(4))
    assert len(moves) == 1
    second = steady.place("slots", torch.arange(4, 8))
    smaller = steady.place("slots", torch.arange(2))
    assert first.data_ptr() == second.data_ptr() == smaller.data_ptr()
    assert smaller.tolist() == [0, 1]
    assert len(moves) == 1
    other = steady.place("lengths", torch.arange(4, dtype=torch.int32))
    assert other.data_ptr() != first.data_ptr()
    assert steady.place("slots", torch.arange(100)).tolist() == list(range(100))
    assert len(moves) == 3
