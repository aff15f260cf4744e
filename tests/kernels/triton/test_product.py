"""Products with packed weights: in codes for few rows, dequantized for many."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lm_offload.kernels.base import SwitchedProducts
from lm_offload.quant.format import parse_format
from lm_offload.quant.packed import PackedWeight
from lm_offload.quant.packing import unpack
from lm_offload.quant.quantize import dequantize
from tests.kernels.packed import ALL_FORMATS, random_weight

each_format = pytest.mark.parametrize("name", ALL_FORMATS)
SHAPES = ((1, 13, 8), (17, 70, 3))  # rows, outputs, groups


def case(name: str, rows: int, outputs: int, groups: int) -> tuple[Tensor, PackedWeight]:
    """Rows of very different sizes inside a wider matrix, and a weight."""
    torch.manual_seed(rows)
    columns = groups * max(parse_format(name).group_size, 32)
    x = torch.randn(rows, columns + 3)[:, 1 : columns + 1]
    x *= torch.logspace(-6, 6, rows)[:, None]
    return x, random_weight(name, outputs, columns)


def exact_product(x: Tensor, weight: PackedWeight) -> tuple[Tensor, Tensor]:
    """x @ weight.T in float64, and what rounding x to 11 bits may do to the part of the codes."""
    minimums = unpack(weight).minimums
    values, coded = dequantize(weight).double(), dequantize(weight).double()
    if minimums is not None:
        coded -= minimums.repeat_interleave(x.shape[1] // minimums.shape[1], 1)
    steps = x.double().abs() * 2.0**-11 + x.double().abs().amax(1, keepdim=True) * 2.0**-20
    return x.double() @ values.T, steps @ (coded.abs() + 1e-3 * values.abs()).T


@each_format
@pytest.mark.parametrize("shape", SHAPES)
def test_codes_are_multiplied_as_they_are(kernels, name, shape):
    x, weight = case(name, *shape)
    bias = torch.randn(shape[1]).bfloat16()
    out = torch.full((shape[0], shape[1] + 2), 7.0)
    kernels.linear(x, weight, out[:, 1:-1], bias)
    expected, allowed = exact_product(x, weight)
    assert ((out[:, 1:-1] - (expected + bias)).abs() <= allowed + 1e-5).all()
    before = out.clone()
    kernels.linear_add(x, weight, out[:, 1:-1])
    assert (((out - before)[:, 1:-1] - expected).abs() <= allowed + 1e-6 * before.abs().max()).all()
    assert (out[:, [0, -1]] == 7.0).all()


@each_format
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_dequantize(kernels, name, dtype):
    from lm_offload.kernels import triton_dequantize

    _, weight = case(name, 1, 70, 3)
    out = torch.full((70, weight.shape[1] + 2), 7.0).to(dtype)
    triton_dequantize.dequantize(weight, out[:, 1:-1])
    # A half is rounded to even; the interpreter cuts what bf16 has no bits for.
    step = 2.0**-7 if dtype is torch.bfloat16 else 0.0  # what the interpreter cuts off
    torch.testing.assert_close(out[:, 1:-1], dequantize(weight).to(dtype), rtol=step, atol=0)
    assert (out[:, [0, -1]] == 7.0).all()


@pytest.mark.parametrize("name", ["int4:64", "int4:32:sym", "int8:row"])
def test_many_rows_are_multiplied_by_pieces_of_floats(kernels, name, monkeypatch):
    from lm_offload.kernels import triton_dequantize

    x, weight = case(name, 5, 37, 4)
    monkeypatch.setattr(triton_dequantize, "PIECE_ELEMENTS", 16 * weight.shape[1])
    kernels.few_rows = 4
    bias, out = torch.randn(37), torch.full((5, 37), 7.0)
    kernels.linear(x, weight, out, bias)
    expected = x.double() @ dequantize(weight).double().T
    scale = x.double().abs() @ dequantize(weight).double().abs().T
    assert ((out - (expected + bias)).abs() <= 2e-3 * scale + 1e-5).all()
    kernels.linear_add(x, weight, out, bias)
    assert ((out - 2 * (expected + bias)).abs() <= 4e-3 * scale + 1e-5).all()


@pytest.mark.parametrize("few_rows", [0, 64])
def test_a_row_depends_on_no_other(kernels, few_rows):
    x, weight = case("int4:64", 5, 40, 6)
    kernels.few_rows = few_rows
    together, alone, spoiled = (torch.empty(5, 40) for _ in range(3))
    kernels.linear(x, weight, together)
    for row in range(5):
        kernels.linear(x[row : row + 1], weight, alone[row : row + 1])
    torch.testing.assert_close(alone, together, rtol=1e-3 if few_rows == 0 else 0, atol=0)
    for value in (torch.nan, torch.inf, 0.0):
        x[2, 7] = value
        if value == 0.0:
            x[2] = 0.0
        kernels.linear(x, weight, spoiled)
        assert (spoiled[2].isfinite() if value == 0.0 else spoiled[2].isnan()).all()
        spoiled[2] = together[2]
        assert torch.equal(spoiled, together)


@pytest.mark.parametrize("few_rows", [0, 64])
def test_no_rows(kernels, few_rows):
    _, weight = case("int4:64", 1, 40, 1)
    kernels.few_rows = few_rows
    kernels.linear(torch.empty(0, 64), weight, torch.empty(0, 40))


def test_floats_are_multiplied_by_torch(kernels):
    x, weight, out = torch.randn(3, 8), torch.randn(5, 8), torch.zeros(3, 5)
    kernels.linear(x, weight, out)
    kernels.linear_add(x, weight, out)
    torch.testing.assert_close(out, 2 * x @ weight.T)


@pytest.mark.parametrize(("outputs", "steps"), [(1, 1), (64, 7), (4096, 64), (128256, 128)])
def test_parts_have_enough_steps(kernels, outputs, steps):
    from lm_offload.kernels.triton_product import MIN_STEPS, split_parts

    parts = split_parts(outputs, steps)
    assert parts == 1 or (steps // parts >= MIN_STEPS and outputs < 1 << 15)


def test_the_switch_can_be_set(kernels):
    assert isinstance(kernels, SwitchedProducts)
    assert kernels.switched_at(7).few_rows == 7
    assert kernels.few_rows != 7
