"""Norms, rotary embedding, cache writes and gates against torch in float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from lm_offload.kernels.base import Kernels
from tests.kernels.implementations import DTYPES, all_kernels
from tests.kernels.paged import BLOCK_TOKENS, empty_cache

EACH = pytest.mark.parametrize("kernels", all_kernels(2), ids=lambda kernels: kernels.name)
rows, widths, seeds = st.integers(0, 20), st.integers(1, 90), st.integers(0, 99)
names = st.sampled_from(DTYPES)


def random_rows(count: int, width: int, seed: int) -> torch.Tensor:
    """Rows inside a wider matrix, as a part of a fused projection is."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, width + 3, generator=generator)[:, 2 : 2 + width]


@EACH
@given(count=rows, width=widths, dtype_name=names, seed=seeds)
def test_rms_norms(kernels: Kernels, count: int, width: int, dtype_name: str, seed: int) -> None:
    x = random_rows(count, width, seed)
    weight = torch.randn(width).to(getattr(torch, dtype_name))
    normal = x.double() / (x.double().square().mean(-1, keepdim=True) + 1e-5).sqrt()
    out = torch.empty(count, width)
    kernels.rms_norm(x, weight, 1e-5, out)
    torch.testing.assert_close(out, (normal * weight).float(), atol=1e-5, rtol=1e-5)
    kernels.rms_norm_plus_one(x, weight, 1e-5, x)
    expected = normal * (1.0 + weight.double())
    torch.testing.assert_close(x, expected.float(), atol=1e-5, rtol=1e-5)


@EACH
@given(count=rows, width=widths, weight_name=names, bias_name=names, seed=seeds)
def test_layer_norm(
    kernels: Kernels, count: int, width: int, weight_name: str, bias_name: str, seed: int
) -> None:
    x = random_rows(count, width, seed)
    weight = torch.randn(width).to(getattr(torch, weight_name))
    bias = torch.randn(width).to(getattr(torch, bias_name))
    expected = functional.layer_norm(
        x.double(), (width,), weight.double(), bias.double(), 1e-2
    ).float()
    kernels.layer_norm(x, weight, bias, 1e-2, x)
    torch.testing.assert_close(x, expected, atol=1e-5, rtol=1e-5)


@EACH
@given(count=rows, heads=st.integers(1, 4), half=st.integers(1, 20), rest=st.integers(0, 5))
def test_rotary_turns_the_first_values(
    kernels: Kernels, count: int, heads: int, half: int, rest: int
) -> None:
    width = 2 * half + rest
    x = torch.randn(count, heads + 1, width)[:, 1:]
    angle = torch.randn(count, half)
    cos, sin = angle.cos()[:, None], angle.sin()[:, None]
    low, high = x[..., :half], x[..., half : 2 * half]
    turned = [low * cos - high * sin, high * cos + low * sin, x[..., 2 * half :]]
    expected = torch.cat(turned, -1)
    kernels.rotary(x, angle.cos(), angle.sin())
    torch.testing.assert_close(x, expected, atol=1e-6, rtol=1e-6)


@EACH
@given(count=rows, head_dim=st.integers(1, 40), name=names)
def test_store_kv_rounds_as_torch_does(
    kernels: Kernels, count: int, head_dim: int, name: str
) -> None:
    dtype = getattr(torch, name)
    slots = torch.randperm(count + 7)[:count]
    keys, values = empty_cache(-(-(count + 7) // BLOCK_TOKENS), 2, head_dim, dtype)
    keys.zero_()
    values.zero_()
    k, v = (torch.randn(count, 3, head_dim)[:, 1:] for _ in "kv")
    kernels.store_kv(k, v, keys, values, slots)
    for cache, given_rows in ((keys, k), (values, v)):
        written = cache[slots // BLOCK_TOKENS, :, slots % BLOCK_TOKENS]
        assert torch.equal(written, given_rows.to(dtype))
        assert cache.count_nonzero() == given_rows.to(dtype).count_nonzero()


@EACH
@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_halves_at_the_edges_are_rounded_as_torch_does(kernels: Kernels, name: str) -> None:
    dtype = getattr(torch, name)
    bits = torch.randint(-(2**31), 2**31, (4096,), generator=torch.Generator().manual_seed(1))
    edges = [0.0, -0.0, 65504.0, 65519.9, 65520.0, 1e9, 2.0**-14, 2.0**-24, 2.0**-25, 3e-8]
    special = torch.tensor([*edges, torch.inf, -torch.inf, torch.nan, 3.4e38])
    small = torch.linspace(-1e-4, 1e-4, 1000)
    x = torch.cat([bits.int().view(torch.float32), special, small, -special])
    caches = empty_cache(1, 1, x.numel(), dtype)
    k = x.reshape(1, 1, -1)
    kernels.store_kv(k, k, *caches, torch.zeros(1, dtype=torch.int64))
    for cache in caches:
        torch.testing.assert_close(cache[0, 0, 0], x.to(dtype), rtol=0, atol=0, equal_nan=True)


@EACH
@given(count=rows, width=widths, seed=seeds, size=st.sampled_from([1.0, 10.0, 100.0]))
def test_gates(kernels: Kernels, count: int, width: int, seed: int, size: float) -> None:
    gate, up = random_rows(count, width, seed) * size, random_rows(count, width, seed + 1)
    expected = {
        "silu_mul": functional.silu(gate.double()) * up,
        "gelu_tanh_mul": functional.gelu(gate.double(), approximate="tanh") * up,
    }
    for name, result in expected.items():
        out = gate.clone()
        getattr(kernels, name)(out, up, out)
        torch.testing.assert_close(out, result.float(), atol=1e-5, rtol=1e-5)


@EACH
@pytest.mark.parametrize("name", ["silu_mul", "gelu_tanh_mul"])
@given(count=rows, width=widths, seed=seeds)
def test_a_gate_does_not_depend_on_other_rows(
    kernels: Kernels, name: str, count: int, width: int, seed: int
) -> None:
    gate, up = random_rows(count + 3, width, seed), random_rows(count + 3, width, seed + 1)
    every, alone = torch.empty_like(gate), torch.empty(count, width)
    getattr(kernels, name)(gate, up, every)
    getattr(kernels, name)(gate[:count].clone(), up[:count].clone(), alone)
    assert torch.equal(every[:count], alone)


@EACH
def test_relu_keeps_nan(kernels: Kernels) -> None:
    x = torch.tensor([[1.0, -1.0, torch.nan, -0.0, torch.inf, -torch.inf, 2.0, -3.0, 4.0]])
    expected = x.relu()
    kernels.relu(x)
    torch.testing.assert_close(x, expected, rtol=0, atol=0, equal_nan=True)


@EACH
@given(count=rows, width=widths, seed=seeds)
def test_products_and_sums_of_rows_are_torchs(
    kernels: Kernels, count: int, width: int, seed: int
) -> None:
    x, y = random_rows(count, width, seed), random_rows(count, width, seed + 1)
    product, total = x * y, x + y
    out = torch.empty(count, width)
    kernels.multiply(x, y, out)
    assert torch.equal(out, product)
    kernels.multiply(x, y, y)
    assert torch.equal(y, product)
    kernels.add(random_rows(count, width, seed + 1), x)
    assert torch.equal(x, total)


@EACH
@given(count=rows, width=widths, name=names, seed=seeds)
def test_rows_times_one_number(
    kernels: Kernels, count: int, width: int, name: str, seed: int
) -> None:
    x, factor = random_rows(count, width, seed), torch.tensor([0.7]).to(getattr(torch, name))
    expected = x * factor.float()
    kernels.scale(x, factor)
    assert torch.equal(x, expected)


@EACH
@given(count=rows, width=widths, seed=seeds)
def test_a_norm_without_scales(kernels: Kernels, count: int, width: int, seed: int) -> None:
    x = random_rows(count, width, seed)
    expected = torch.empty(count, width)
    kernels.rms_norm(x, torch.ones(width), 1e-5, expected)
    kernels.bare_norm(x, 1e-5, x)
    assert torch.equal(x, expected)
