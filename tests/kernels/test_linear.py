"""Products: right in every dtype and shape, and the same bits for a row in any company."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lm_offload.kernels.base import Kernels
from lm_offload.kernels.scratch import linear_scratch_bytes
from lm_offload.quant.format import parse_format
from lm_offload.quant.quantize import quantize
from tests.kernels.implementations import DTYPES, all_kernels, inputs_of

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.kernels.base import Weight

sizes = st.integers(1, 80)
names = st.sampled_from(DTYPES)


@pytest.mark.parametrize("kernels", all_kernels(2), ids=lambda kernels: kernels.name)
@given(
    m=st.integers(1, 130),
    n=sizes,
    k=st.integers(1, 200),
    weight_name=names,
    bias_name=names,
    seed=sizes,
)
def test_linear_is_the_product(
    kernels: Kernels, m: int, n: int, k: int, weight_name: str, bias_name: str, seed: int
) -> None:
    torch.manual_seed(seed)
    x = torch.randn(m, k + 3)[:, :k]
    weight = torch.randn(n, k + 1).to(getattr(torch, weight_name))[:, 1:]
    bias = torch.randn(n).to(getattr(torch, bias_name))
    out = torch.full((m, n + 2), 7.0)
    kernels.linear(x, weight, out[:, :n], bias)
    inputs = inputs_of(kernels, x, weight).double()
    expected = (inputs @ weight.double().T + bias).float()
    torch.testing.assert_close(out[:, :n], expected, atol=1e-4, rtol=1e-5)
    assert (out[:, n:] == 7.0).all()
    kernels.linear_add(x, weight, out[:, :n])
    torch.testing.assert_close(out[:, :n], expected + expected - bias, atol=2e-4, rtol=1e-5)


@pytest.mark.parametrize("kernels", all_kernels(2), ids=lambda kernels: kernels.name)
@pytest.mark.parametrize("packed", ["none", "all", "some", "two formats"])
@pytest.mark.parametrize("m", [1, 5, 70, 200])
def test_several_products_are_those_of_one_at_a_time(kernels: Kernels, packed: str, m: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(m, 128)
    plain = [torch.randn(rows, 128).bfloat16() for rows in (90, 8, 1, 40, 300)]
    formats = {"none": "-----", "all": "44444", "some": "4-4--", "two formats": "48448"}[packed]
    weights = [_in_format(weight, code) for weight, code in zip(plain, formats, strict=True)]
    biases = [torch.randn(len(weight)) if len(weight) > 8 else None for weight in plain]
    outs, expected = ([torch.empty(m, len(weight)) for weight in plain] for _ in range(2))
    kernels.linear_each(x, list(zip(weights, outs, biases, strict=True)))
    for weight, out, bias in zip(weights, expected, biases, strict=True):
        kernels.linear(x, weight, out, bias)
    assert all(map(torch.equal, outs, expected))


def _in_format(weight: Tensor, code: str) -> Weight:
    return weight if code == "-" else quantize(weight, parse_format(f"int{code}:64"), "w")


@pytest.mark.parametrize("kernels", all_kernels(), ids=lambda kernels: kernels.name)
@pytest.mark.parametrize("dtype_name", DTYPES)
def test_a_row_has_the_same_bits_in_any_company(kernels: Kernels, dtype_name: str) -> None:
    torch.manual_seed(0)
    weight = torch.randn(131, 1037).to(getattr(torch, dtype_name))
    x = torch.randn(300, 1037)
    whole = torch.empty(300, 131)
    kernels.linear(x, weight, whole)
    for start, stop in ((0, 1), (17, 18), (3, 5), (7, 10), (0, 4), (5, 11), (0, 33), (40, 180)):
        part = torch.empty(stop - start, 131)
        kernels.linear(x[start:stop], weight, part)
        assert torch.equal(part, whole[start:stop])


@pytest.mark.parametrize("kernels", all_kernels(), ids=lambda kernels: kernels.name)
def test_threads_do_not_change_a_bit(kernels: Kernels) -> None:
    weight, x = torch.randn(700, 256).bfloat16(), torch.randn(9, 256)
    results = []
    for threads in (1, 2, 5):
        same_kind = next(other for other in all_kernels(threads) if other.name == kernels.name)
        out = torch.empty(9, 700)
        same_kind.linear(x, weight, out)
        results.append(out)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@pytest.mark.parametrize("kernels", all_kernels(), ids=lambda kernels: kernels.name)
def test_no_rows_and_nan(kernels: Kernels) -> None:
    weight = torch.randn(5, 8)
    kernels.linear(torch.empty(0, 8), weight, torch.empty(0, 5))
    x, out = torch.ones(2, 8), torch.empty(2, 5)
    x[1, 3] = torch.nan
    kernels.linear(x, weight, out)
    assert out[0].isfinite().all()
    assert out[1].isnan().all()


def test_few_rows_keep_hardly_any_memory_with_a_float_weight() -> None:
    assert linear_scratch_bytes(1, 8192, 8192, 2) in (0, 2 * 8192)  # where inputs are rounded
    assert linear_scratch_bytes(4, 8192, 8192, 2) <= 4 * 2 * 8192


def test_many_rows_keep_a_block_of_inputs_and_a_part_of_a_float_weight() -> None:
    for columns in (64, 1040, 2048, 28672):
        one, two, four = (linear_scratch_bytes(512, 1 << 20, columns, t) for t in (1, 2, 4))
        assert four - one == 3 * (two - one)  # weights: a part for each thread
        assert two - one < 256 * columns + (1 << 20)
        assert one < (640 + 256) * columns + (1 << 20)  # inputs: a block of at most 160 rows
        assert linear_scratch_bytes(1 << 20, 1 << 20, columns, 1) < 1.25 * one
        assert linear_scratch_bytes(512, 32, columns, 4) == one


@pytest.mark.parametrize("dtype_name", ["bfloat16", "float16"])
def test_every_half_is_widened_exactly(dtype_name: str) -> None:
    """Dot products of bf16 take subnormal numbers, below 2^-126, as zero."""
    bits = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32).to(torch.int16)
    values = bits.view(getattr(torch, dtype_name))
    weight = values[values.isfinite()].reshape(-1, 1)
    for kernels in all_kernels():
        out = torch.empty(1, weight.shape[0])
        kernels.linear(torch.ones(1, 1), weight, out)
        expected = weight[:, 0].float()
        if getattr(kernels, "rounds_inputs", False) and dtype_name == "bfloat16":
            expected = torch.where(expected.abs() < 2.0**-126, 0.0, expected)
        assert torch.equal(out[0], expected)
