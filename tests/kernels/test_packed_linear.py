"""Products with packed weights: right in every format and shape, and the same bits everywhere."""

from __future__ import annotations

import math
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lm_offload.kernels
from lm_offload.kernels.base import Kernels
from lm_offload.kernels.onednn_kernels import OneDnnKernels
from lm_offload.kernels.scratch import packed_scratch_bytes
from lm_offload.quant.format import parse_format
from lm_offload.quant.packed import PackedWeight
from lm_offload.quant.packing import Codes, pack
from tests.kernels.implementations import (
    DTYPES,
    all_kernels,
    inputs_of,
    native_kernels,
    rounds_inputs,
)
from tests.kernels.packed import ALL_FORMATS, ROUNDED_FORMATS, exact_product, product, random_weight

each_kernels = pytest.mark.parametrize("kernels", all_kernels(2), ids=lambda each: each.name)
each_native = pytest.mark.parametrize("kernels", native_kernels(1), ids=lambda each: each.name)
FORMATS = (*ALL_FORMATS, *ROUNDED_FORMATS)
each_format = pytest.mark.parametrize("name", FORMATS)


def columns_of(name: str, steps: int) -> int:
    """A width that the format can cut into groups."""
    return steps * max(parse_format(name).group_size, 32)


@each_kernels
@settings(max_examples=60)
@given(
    name=st.sampled_from(FORMATS),
    m=st.integers(0, 70),
    n=st.integers(1, 40),
    steps=st.integers(1, 6),
    bias_name=st.sampled_from(DTYPES),
    seed=st.integers(0, 1 << 30),
)
def test_it_is_the_product(
    kernels: Kernels, name: str, m: int, n: int, steps: int, bias_name: str, seed: int
) -> None:
    torch.manual_seed(seed)
    k = columns_of(name, steps)
    x = (torch.randn(m, k + 3) * torch.logspace(-6, 6, k + 3))[:, 1 : k + 1]
    weight = random_weight(name, n, k)
    bias = torch.randn(n).to(getattr(torch, bias_name))
    out = torch.full((m, n + 2), 7.0)
    kernels.linear(x, weight, out[:, 1 : n + 1], bias)
    expected, allowed = exact_product(inputs_of(kernels, x, weight), weight)
    assert ((out[:, 1 : n + 1] - (expected + bias)).abs() <= allowed + 1e-6).all()
    kernels.linear_add(x, weight, out[:, 1 : n + 1])
    assert ((out[:, 1 : n + 1] - (2 * expected + bias)).abs() <= 2 * allowed + 1e-6).all()
    assert (out[:, 0] == 7.0).all()
    assert (out[:, n + 1] == 7.0).all()


@pytest.mark.skipif(not native_kernels(1), reason="native kernels are not built")
@each_format
def test_native_results_have_the_same_bits_on_every_instruction_set(name: str) -> None:
    first, *others = native_kernels(1)
    if name.startswith(
        "fp8"
    ):  # but for those without fused operations, or whose inputs are rounded
        first, *others = (
            each
            for each in native_kernels(1)
            if "generic" not in each.name and not rounds_inputs(each)
        )
    for m, n in ((1, 117), (3, 21), (9, 53), (17, 39), (64, 17), (77, 45)):
        k = columns_of(name, 5)
        x, weight = torch.randn(m, k), random_weight(name, n, k)
        expected = product(first, x, weight)
        for other in others:
            assert torch.equal(product(other, x, weight), expected)


@each_kernels
@each_format
def test_a_row_has_the_same_bits_in_any_company(kernels: Kernels, name: str) -> None:
    x, weight = torch.randn(130, columns_of(name, 3)), random_weight(name, 27, columns_of(name, 3))
    whole = product(kernels, x, weight)
    for start, stop in ((0, 1), (129, 130), (7, 9), (3, 6), (60, 64), (5, 10), (0, 64), (1, 130)):
        assert torch.equal(product(kernels, x[start:stop], weight), whole[start:stop])


@each_native
@pytest.mark.parametrize("name", ["int4:64", "fp8:row", "mxfp4"])
def test_any_number_of_rows_has_the_bits_of_single_rows(kernels: Kernels, name: str) -> None:
    x, weight = torch.randn(130, 128), random_weight(name, 17, 128)
    alone = torch.cat([product(kernels, row[None], weight) for row in x])
    for m in range(1, 131):
        assert torch.equal(product(kernels, x[:m], weight), alone[:m])


@each_native
@each_format
def test_threads_do_not_change_a_bit(kernels: Kernels, name: str) -> None:
    index = [each.name for each in native_kernels(1)].index(kernels.name)
    for rows in (6, 21):
        k = columns_of(name, 4)
        x, weight = torch.randn(rows, k), random_weight(name, 301, k)
        expected = product(kernels, x, weight)
        for threads in (2, 3):
            assert torch.equal(product(native_kernels(threads)[index], x, weight), expected)


@each_kernels
@each_format
def test_any_number_of_outputs_is_written_and_no_more(kernels: Kernels, name: str) -> None:
    for n in range(1, 18):
        k = columns_of(name, 1)
        x, weight, out = torch.randn(5, k), random_weight(name, n, k), torch.full((5, n + 1), 7.0)
        kernels.linear(x, weight, out[:, :n])
        expected, allowed = exact_product(inputs_of(kernels, x, weight), weight)
        assert ((out[:, :n] - expected).abs() <= allowed).all()
        assert (out[:, n] == 7.0).all()


@each_native
@each_format
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_row_that_is_not_finite_becomes_nan(kernels: Kernels, name: str, bad: float) -> None:
    for rows in (6, 20):  # in vector registers, and where there are some in those of matrices
        k = columns_of(name, 3)
        x, weight = torch.randn(rows, k), random_weight(name, 9, k)
        x[2, -1] = x[4, 33 % x.shape[1]] = bad
        out = product(kernels, x, weight)
        exact = name.startswith("fp8") and not math.isnan(bad)  # infinity stays what it is
        assert not out[[2, 4]].isfinite().any() if exact else out[[2, 4]].isnan().all()
        others = [row for row in range(rows) if row not in (2, 4)]
        assert torch.equal(out[others], product(kernels, x[others], weight))


@each_native
@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("name", ["int8:row", "int8:32", "int8:64", "int4:32", "int4:64:sym"])
def test_the_largest_sums_are_exact(kernels: Kernels, name: str, sign: float) -> None:
    """Few rows and many, whose inputs are multiplied as bytes and as pairs."""
    format = parse_format(name)
    code, dtype = (-127, torch.int8) if format.name == "int8" else (15, torch.uint8)
    factors = torch.ones(24, 128 // (format.group_size or 128)).half()
    minimums = None if format.symmetric else 0 * factors
    weight = pack(Codes(torch.full((24, 128), code, dtype=dtype), factors, minimums), format)
    value = code - 8 if format.name == "int4" and format.symmetric else code
    for rows in (1, 2, 3, 4, 5, 20):
        out = product(kernels, torch.full((rows, 128), 32767.0 * sign), weight)
        assert (out == 128 * 32767.0 * sign * value).all()


@each_native
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_largest_sums_of_small_floats_are_exact(kernels: Kernels, sign: float) -> None:
    for code, value in ((7, 6.0), (15, -6.0)):
        powers = torch.full((24, 4), 127, dtype=torch.uint8).view(torch.float8_e8m0fnu)
        codes = Codes(torch.full((24, 128), code, dtype=torch.uint8), powers, None)
        weight = pack(codes, parse_format("mxfp4"))
        for rows in (1, 2, 3, 4, 5, 20):
            out = product(kernels, torch.full((rows, 128), 32767.0 * sign), weight)
            assert (out == 128 * 32767.0 * sign * value).all()


@each_kernels
def test_every_small_float_with_every_power_of_two(kernels: Kernels) -> None:
    """But the two that float32 has no 6 of; inputs bring products into the range of float32."""
    codes = torch.zeros(253, 32, dtype=torch.uint8)
    codes[:, 5] = 9  # -0.5
    codes[:, 6] = 7  # 6
    powers = torch.arange(253, dtype=torch.uint8).view(torch.float8_e8m0fnu)[:, None]
    weight = pack(Codes(codes, powers, None), parse_format("mxfp4"))
    for size in (2.0**-60, 1.0, 2.0**60):
        x = torch.zeros(2, 32)
        x[0, 5], x[1, 6] = size, size
        wanted = (powers.double() * torch.tensor([[-0.5, 6.0]]).double() * size).T
        fine = (wanted.abs() > 1e-30) & (wanted.abs() < 1e38)
        out = product(kernels, x, weight).double()
        assert fine.any()
        torch.testing.assert_close(out[fine], wanted[fine], rtol=2e-7, atol=0)


@each_native
def test_zeros_and_values_of_any_size(kernels: Kernels) -> None:
    weight = random_weight("int4:64", 11, 128)
    assert (product(kernels, torch.zeros(3, 128), weight) == 0).all()
    assert product(kernels, torch.empty(0, 128), weight).shape == (0, 11)
    for size in (1e-30, 1e30):
        x = torch.randn(3, 128) * size
        expected, allowed = exact_product(inputs_of(kernels, x, weight), weight)
        assert ((product(kernels, x, weight) - expected).abs() <= allowed).all()
    assert (product(kernels, torch.full((3, 128), 1e-40), weight).abs() < 1e-30).all()


@each_kernels
@pytest.mark.parametrize("scale", [2.0**-30, 1.0, 3e30])
def test_every_float8_is_what_it_stands_for(kernels: Kernels, scale: float) -> None:
    """By rows of an identity; also where several rows share weights that were unpacked."""
    bits = torch.arange(256, dtype=torch.uint8)
    floats = torch.where(bits & 0x7F == 0x7F, 0, bits).view(torch.float8_e4m3fn).view(8, 32)
    weight = pack(Codes(floats, torch.full((8, 1), scale), None), parse_format("fp8:row"))
    assert torch.equal(product(kernels, torch.eye(32), weight), scale * floats.float().T)
    assert torch.equal(product(kernels, torch.eye(32)[:3], weight), scale * floats.float().T[:3])


@each_native
@pytest.mark.parametrize("name", ["int4:32", "fp8:32"])
def test_packed_bytes_may_lie_at_any_address(kernels: Kernels, name: str) -> None:
    x, weight = torch.randn(3, 128), random_weight(name, 24, 128)
    moved = torch.empty(weight.data.numel() + 1, dtype=torch.uint8)[1:].copy_(weight.data)
    shifted = PackedWeight(moved, weight.format, weight.shape)
    assert torch.equal(product(kernels, x, shifted), product(kernels, x, weight))


@each_native
def test_unreadable_weights_are_refused(kernels: Kernels) -> None:
    x, good = torch.randn(2, 64), random_weight("int8:64", 8, 64)
    row = parse_format("int8:row")
    for data, format, shape in (
        (good.data[:-1], good.format, (8, 64)),
        (good.data.view(torch.int8), good.format, (8, 64)),
        (good.data, good.format, (17, 64)),
        (good.data, parse_format("bf16"), (8, 64)),
        (torch.zeros(row.matrix_bytes(8, 48), dtype=torch.uint8), row, (8, 48)),
        (good.data.repeat(2)[::2], good.format, (8, 64)),
    ):
        weight = PackedWeight(data, format, shape)
        with pytest.raises(ValueError, match="A native kernel takes"):
            kernels.linear(x[:, : shape[1]], weight, torch.empty(2, shape[0]))
    with pytest.raises(ValueError, match="A native kernel takes"):
        kernels.linear(x[:, :32], good, torch.empty(2, 8))


@each_kernels
def test_onednn_leaves_packed_weights_to_the_other_kernels(kernels: Kernels) -> None:
    x, weight = torch.randn(5, 64), random_weight("int4:64", 10, 64)
    both = OneDnnKernels(kernels, min_rows=4)
    assert torch.equal(product(both, x, weight), product(kernels, x, weight))
    out, expected = torch.ones(5, 10), torch.ones(5, 10)
    both.linear_add(x, weight, out)
    kernels.linear_add(x, weight, expected)
    assert torch.equal(out, expected)


def test_working_memory_grows_with_the_columns_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in all_kernels()[-2:]:  # with native code, then without
        assert 0 < packed_scratch_bytes(2048) <= packed_scratch_bytes(8192) < 4 << 20
        monkeypatch.delattr(lm_offload.kernels, "_native", raising=False)
        monkeypatch.setitem(sys.modules, "lm_offload.kernels._native", None)
