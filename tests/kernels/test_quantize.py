"""Native code rounds weights to the bits of the reference, with every instruction set."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_offload.errors import CheckpointError, ConfigError
from lm_offload.kernels import _native
from lm_offload.kernels.native_quantize import quantize_natively
from lm_offload.quant.format import parse_format
from lm_offload.quant.quantize import quantize

TABLES = _native.all_operations()
FORMATS = [
    "int8:32",
    "int8:64",
    "int8:row",
    "int4:32",
    "int4:64",
    "int4:128",
    "int4:64:sym",
    "fp8:row",
    "fp8:64",
    "mxfp4",
]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
# As they are in models, and what meets the ends of grids.
KINDS = ["normal", "zeros", "equal", "outliers", "whole", "tiny", "shifted"]


def weights(kind: str, rows: int, columns: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(rows, columns, generator=generator)
    match kind:
        case "zeros":
            return values * (torch.rand(rows, columns // 32, generator=generator) < 0.5).repeat(
                1, 32
            )
        case "equal":
            return values[:, :1].expand(rows, columns).contiguous()
        case "outliers":
            return values.pow(9).clamp(-6e4, 6e4)
        case "whole":
            return (values * 4).round()
        case "tiny":
            return values * 1e-7
        case "shifted":
            return values * 0.01 - 3
    return values * 0.02


@settings(max_examples=150)
@given(
    st.sampled_from(TABLES),
    st.sampled_from(FORMATS),
    st.sampled_from(DTYPES),
    st.sampled_from(KINDS),
    st.integers(1, 27),
    st.integers(1, 5),
    st.integers(1, 3),
    st.integers(0, 1 << 30),
)
def test_bits_are_those_of_the_reference(
    operations, text, dtype, kind, rows, blocks, threads, seed
):
    format = parse_format(text)
    columns = blocks * max(format.group_size, 32)
    wide = weights(kind, rows, columns, seed).to(dtype)
    weight = torch.cat([wide, wide], dim=1)[:, :columns]  # rows lie apart
    found = quantize_natively(operations, threads, weight, format, "a weight")
    wanted = quantize(weight, format, "a weight")
    assert found.format == wanted.format
    assert found.shape == wanted.shape
    assert torch.equal(found.data, wanted.data)


@pytest.mark.parametrize("operations", TABLES, ids=lambda table: table.name)
@pytest.mark.parametrize("text", ["int8:row", "int4:64", "int4:32:sym", "fp8:row"])
def test_wide_rows(operations, text):
    weight = weights("normal", 9, 11008, 1).bfloat16()
    format = parse_format(text)
    found = quantize_natively(operations, 2, weight, format, "a weight")
    assert torch.equal(found.data, quantize(weight, format, "a weight").data)


@pytest.mark.parametrize("operations", TABLES, ids=lambda table: table.name)
@pytest.mark.parametrize("text", ["int8:64", "int4:64", "fp8:row"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_no_numbers(operations, text, value):
    weight = weights("normal", 12, 128, 2)
    weight[9, 100] = value
    with pytest.raises(CheckpointError, match="a weight holds weights that are not finite"):
        quantize_natively(operations, 1, weight, parse_format(text), "a weight")


@pytest.mark.parametrize("operations", TABLES, ids=lambda table: table.name)
def test_weights_too_large_for_scales(operations):
    weight = weights("normal", 8, 64, 3)
    weight[3, 5] = 1e38
    with pytest.raises(CheckpointError, match="too large for the fp16 scales"):
        quantize_natively(operations, 1, weight, parse_format("int4:64"), "a weight")


def test_columns_that_no_groups_cut():
    with pytest.raises(ConfigError, match="a weight has 48 columns"):
        quantize_natively(TABLES[0], 1, torch.zeros(8, 48), parse_format("int8:32"), "a weight")
