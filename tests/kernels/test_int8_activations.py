"""Products with activations of 8 bits: the bits of the reference, with every implementation."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lm_offload.kernels.base import Kernels
from lm_offload.quant.activations import round_rows, rounded_product
from lm_offload.quant.format import parse_format
from lm_offload.quant.packed import PackedWeight
from lm_offload.quant.packing import Codes, pack
from tests.kernels.implementations import all_kernels
from tests.kernels.packed import ROUNDED_FORMATS, product, random_weight

each_kernels = pytest.mark.parametrize("kernels", all_kernels(2), ids=lambda each: each.name)


@each_kernels
@settings(max_examples=60)
@given(
    name=st.sampled_from(ROUNDED_FORMATS),
    m=st.integers(1, 70),
    n=st.integers(1, 40),
    steps=st.integers(1, 6),
    seed=st.integers(0, 1 << 30),
)
def test_it_has_the_bits_of_the_reference(
    kernels: Kernels, name: str, m: int, n: int, steps: int, seed: int
) -> None:
    torch.manual_seed(seed)
    k = steps * max(parse_format(name).group_size, 32)
    x, weight = torch.randn(m, k) * torch.logspace(-6, 6, k), random_weight(name, n, k)
    assert torch.equal(product(kernels, x, weight), rounded_product(round_rows(x), weight))


@each_kernels
@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("name", ROUNDED_FORMATS)
def test_the_largest_sums_are_exact(kernels: Kernels, name: str, sign: float) -> None:
    format = parse_format(name)
    code, dtype = (-127, torch.int8) if format.name == "int8" else (15, torch.uint8)
    groups = 256 // (format.group_size or 256)
    factors = torch.ones(16, groups).half()
    minimums = None if format.symmetric else 0 * factors
    weight = pack(Codes(torch.full((16, 256), code, dtype=dtype), factors, minimums), format)
    value = code - 8 if format.name == "int4" and format.symmetric else code
    for rows in (1, 3, 16, 20):
        out = product(kernels, torch.full((rows, 256), 127.0 * sign), weight)
        assert (out == 256 * 127.0 * sign * value).all()


@each_kernels
def test_the_same_bytes_without_rounding_are_closer(kernels: Kernels) -> None:
    x, rounded = torch.randn(7, 256), random_weight("int4:64:a8", 24, 256)
    exact = PackedWeight(rounded.data, rounded.format.stored, rounded.shape)
    wanted = x.double() @ _values(rounded).double().T
    far, near = (
        float((product(kernels, x, weight) - wanted).abs().max()) for weight in (rounded, exact)
    )
    assert 20 * near < far < 0.02 * float(wanted.abs().max())


def _values(weight: PackedWeight) -> Tensor:
    from lm_offload.quant.quantize import dequantize

    return dequantize(weight)


@each_kernels
def test_formats_that_differ_in_rounding_alone_are_no_one_run(kernels: Kernels) -> None:
    x, weight = torch.randn(5, 64), random_weight("int4:64", 16, 64)
    rounded = PackedWeight(weight.data, replace(weight.format, int8_activations=True), weight.shape)
    outs = torch.empty(5, 16), torch.empty(5, 16)
    kernels.linear_each(x, [(weight, outs[0], None), (rounded, outs[1], None)])
    assert torch.equal(outs[0], product(kernels, x, weight))
    assert torch.equal(outs[1], product(kernels, x, rounded))
