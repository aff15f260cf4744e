"""Norms and the rotary embedding against torch."""

from __future__ import annotations

import pytest
import torch

from lm_offload.kernels.torch_kernels import TorchKernels


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("rows", "width"), [(0, 8), (1, 1), (3, 90), (2, 2048)])
@pytest.mark.parametrize("name", ["rms_norm", "rms_norm_plus_one"])
def test_norms(kernels, name, rows, width, dtype):
    x, weight = torch.randn(rows, width + 3)[:, 2:-1], torch.randn(width).to(dtype)
    expected, out = torch.empty(rows, width), torch.empty(rows, width + 1)[:, 1:]
    getattr(TorchKernels(1), name)(x, weight, 1e-5, expected)
    getattr(kernels, name)(x, weight, 1e-5, out)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
    getattr(kernels, name)(x, weight, 1e-5, x)
    assert torch.equal(x, out)


@pytest.mark.parametrize(
    ("rows", "heads", "half", "rest"), [(0, 1, 4, 0), (3, 1, 1, 0), (4, 11, 20, 5), (2, 3, 64, 0)]
)
def test_rotary(kernels, rows, heads, half, rest):
    x = torch.randn(rows, heads + 1, 2 * half + rest)[:, 1:]
    expected, angle = x.clone(), torch.randn(rows, half)
    TorchKernels(1).rotary(expected, angle.cos(), angle.sin())
    kernels.rotary(x, angle.cos(), angle.sin())
    torch.testing.assert_close(x, expected, atol=1e-6, rtol=1e-6)


def test_the_rest_is_that_of_torch(kernels):
    x, up = torch.randn(2, 9), torch.randn(2, 9)
    for name in ("silu_mul", "gelu_tanh_mul"):
        out, expected = torch.empty(2, 9), torch.empty(2, 9)
        getattr(kernels, name)(x, up, out)
        getattr(TorchKernels(1), name)(x, up, expected)
        assert torch.equal(out, expected)
    assert kernels.with_threads(3, 2) is kernels
