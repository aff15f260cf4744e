"""Packing is a bijection, and the bytes lie where the layout says."""

from __future__ import annotations

import pytest
import torch

from lm_offload.errors import ConfigError
from lm_offload.quant.columns import check_columns
from lm_offload.quant.format import Format, parse_format
from lm_offload.quant.packing import Codes, pack, unpack
from tests.kernels.packed import random_float4, random_float8

FORMATS = [
    "int8:row",
    "int8:32",
    "int8:64",
    "int4:32",
    "int4:64:sym",
    "int4:128",
    "fp8:row",
    "fp8:64",
    "mxfp4",
]


def random_codes(format: Format, rows: int, columns: int) -> Codes:
    groups = columns // format.group_size if format.group_size else 1
    if format.name == "mxfp4":
        return random_float4(rows, columns)
    if format.name == "fp8":
        return Codes(random_float8(rows, columns), torch.rand(rows, groups), None)
    low, high, dtype = (-127, 128, torch.int8) if format.name == "int8" else (0, 16, torch.uint8)
    values = torch.randint(low, high, (rows, columns), dtype=dtype)
    scales = torch.rand(rows, groups).half()
    return Codes(values, scales, None if format.symmetric else -torch.rand(rows, groups).half())


@pytest.mark.parametrize("text", FORMATS)
@pytest.mark.parametrize("rows", [1, 8, 13])
def test_unpack_gives_back_what_was_packed(text: str, rows: int) -> None:
    format = parse_format(text)
    codes = random_codes(format, rows, 256)
    packed = pack(codes, format)
    back = unpack(packed)
    assert packed.data.numel() == format.matrix_bytes(rows, 256)
    assert torch.equal(back.values.view(torch.uint8), codes.values.view(torch.uint8))
    assert torch.equal(back.scales.view(torch.uint8), codes.scales.view(torch.uint8))
    if codes.minimums is not None:
        assert back.minimums is not None
        assert torch.equal(back.minimums, codes.minimums)


def test_int4_bytes_lie_as_documented() -> None:
    values = torch.arange(8, dtype=torch.uint8).repeat(8, 4)
    packed = pack(Codes(values, torch.ones(8, 1).half(), None), parse_format("int4:32:sym"))
    assert packed.data[16:20].tolist() == [0x20, 0x64, 0x31, 0x75]
    assert packed.data[16 + 4 : 16 + 8].tolist() == [0x20, 0x64, 0x31, 0x75]  # the next row


def test_int8_bytes_lie_as_documented() -> None:
    values = torch.arange(32, dtype=torch.int8).repeat(8, 1)
    packed = pack(Codes(values, torch.ones(8, 1).half(), None), parse_format("int8:row"))
    assert packed.data[16:20].tolist() == [0, 2, 1, 3]
    assert packed.data[16 + 32 : 16 + 36].tolist() == [4, 6, 5, 7]


def test_float8_bytes_lie_as_documented() -> None:
    values = torch.arange(32) + 32 * (torch.arange(8) % 3)[:, None]
    floats = values.to(torch.uint8).view(torch.float8_e4m3fn)
    packed = pack(Codes(floats, torch.arange(8.0)[:, None], None), parse_format("fp8"))
    assert packed.data[:32].view(torch.float32).tolist() == list(range(8))
    assert packed.data[32:40].tolist() == [0, 2, 1, 3, 32, 34, 33, 35]
    assert packed.data[32 + 32 : 32 + 36].tolist() == [4, 6, 5, 7]


def test_float4_bytes_lie_as_documented() -> None:
    values = torch.arange(8, dtype=torch.uint8).repeat(8, 4)
    powers = torch.arange(8, dtype=torch.uint8)[:, None].view(torch.float8_e8m0fnu)
    packed = pack(Codes(values, powers, None), parse_format("mxfp4"))
    assert packed.data[:8].tolist() == list(range(8))
    assert packed.data[8:12].tolist() == [0x20, 0x64, 0x31, 0x75]
    assert packed.data.numel() == 8 * 32 * 17 // 32  # 4.25 bits each


def test_columns_that_no_group_fits_are_refused() -> None:
    with pytest.raises(ConfigError, match="q_proj has 96 columns"):
        check_columns(parse_format("int4:64"), 96, "q_proj")


@pytest.mark.parametrize(
    "text",
    ["int5", "int4:48", "int4:row", "bf16:64", "int8:64:x", "fp8:48", "fp8:a8", "mxfp4:32", ""],
)
def test_unknown_formats_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is not known"):
        parse_format(text)


@pytest.mark.parametrize(
    "text",
    ["bf16", "int8:row", "int8:64", "int4:64", "int4:128:sym", "fp8:row", "fp8:128", "mxfp4"],
)
def test_a_format_prints_as_it_is_written(text: str) -> None:
    assert str(parse_format(text)) == text
