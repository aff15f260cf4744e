"""Calls that are written down and repeated, on what lies elsewhere by then."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from lm_offload.hardware.replayed_call import replay_of
from lm_offload.kernels.base import Kernels
from lm_offload.kernels.torch_kernels import TorchKernels


def multiply(x: Tensor, weight: Tensor, out: Tensor, kernels: Kernels) -> None:
    kernels.linear(x, weight, out)


def test_a_replay_multiplies_by_the_matrix_it_is_told_of(kernels: Kernels) -> None:
    weights, x, out = torch.randn(3, 16, 8), torch.randn(1, 8), torch.zeros(1, 16)
    replay = replay_of(kernels, partial(multiply, x, weights[0], out))
    if replay is None:  # these kernels write nothing down, and nothing was computed
        assert not out.any()
        return
    torch.testing.assert_close(out, x @ weights[0].T)
    replay(2 * weights[0].nbytes, 0)
    torch.testing.assert_close(out, x @ weights[2].T)


def test_what_cannot_be_written_down_is_not_replayed() -> None:
    kernels = TorchKernels(1)
    x, weight, out = torch.randn(1, 8), torch.randn(16, 8), torch.empty(1, 16)
    assert replay_of(kernels, partial(multiply, x, weight, out)) is None
