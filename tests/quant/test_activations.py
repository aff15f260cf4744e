"""Activations rounded to 8 bits, and the names of formats that round them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_offload.errors import ConfigError
from lm_offload.quant.activations import round_rows, rounded_product
from lm_offload.quant.format import Format, parse_format
from lm_offload.quant.quantize import dequantize, quantize


@settings(max_examples=50)
@given(columns=st.integers(1, 200), exponent=st.integers(-30, 30), seed=st.integers(0, 1 << 30))
def test_values_are_off_by_half_a_step_at_most(columns: int, exponent: int, seed: int) -> None:
    torch.manual_seed(seed)
    x = torch.randn(3, columns) * 10.0**exponent
    rows = round_rows(x)
    assert torch.equal(rows.values, rows.values.round())
    assert rows.values.abs().max() == 127
    scales = rows.scales.repeat_interleave(64, dim=1)[:, :columns]
    assert ((rows.values * scales - x).abs() <= 0.501 * scales).all()


def test_zeros_and_what_is_not_finite() -> None:
    x = torch.zeros(3, 128)
    x[1, 70], x[2, 0] = torch.inf, torch.nan
    rows = round_rows(x)
    assert (rows.values == 0).all()
    assert rows.scales.isnan().tolist() == [[False, False], [False, True], [True, False]]


@pytest.mark.parametrize("name", ["int8:64:a8", "int8:row:a8", "int4:32:a8", "int4:128:sym:a8"])
def test_the_product_is_that_of_rounded_rows(name: str) -> None:
    x, weight = torch.randn(5, 256), quantize(torch.randn(12, 256), parse_format(name), "weight")
    rows = round_rows(x)
    rounded = rows.values * rows.scales.repeat_interleave(64, dim=1)
    wanted = rounded.double() @ dequantize(weight).double().T
    torch.testing.assert_close(rounded_product(rows, weight).double(), wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("int4:a8", "int4:64:a8"),
        ("INT8:A8", "int8:64:a8"),
        ("int8:row:a8", "int8:row:a8"),
        ("int4:32:sym:a8", "int4:32:sym:a8"),
        ("int4:sym:a8", "int4:64:sym:a8"),
    ],
)
def test_names(text: str, name: str) -> None:
    format = parse_format(text)
    assert str(format) == name
    assert parse_format(name) == format
    assert str(format.stored) == name.removesuffix(":a8")
    assert format.stored.matrix_bytes(9, 128) == format.matrix_bytes(9, 128)
    assert format != format.stored == format.stored.stored


@pytest.mark.parametrize("text", ["bf16:a8", "int4:a8:64", "int4:64:a8:a8", "int4:64:a16", "a8"])
def test_names_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match=":a8 at the end of an integer one"):
        parse_format(text)


def test_formats_of_floats_round_nothing() -> None:
    assert Format("bf16").stored == Format("bf16")
