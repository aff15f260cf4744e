"""Weights as e4m3 floats: nearest ones, scales that beat the covering one, and what they were."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_offload.quant.float8 import LARGEST, float8_groups, holds_nan, round_to_float8
from lm_offload.quant.format import Format, parse_format
from lm_offload.quant.quantize import dequantize, quantize
from tests.kernels.packed import random_float8

ALL = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).float()
FLOATS = ALL[ALL.isfinite()].sort().values


@given(st.floats(-1e4, 1e4, width=32))
def test_rounding_finds_a_nearest_float(value: float) -> None:
    found = float(round_to_float8(torch.tensor([value])).float())
    assert abs(found - value) == float((FLOATS - torch.tensor(value)).abs().min())


@settings(max_examples=40)
@given(
    seed=st.integers(0, 1000), size=st.sampled_from([1e-37, 1e-9, 0.02, 1.0, 300.0, 1e36]),
    columns=st.sampled_from([32, 128, 512]),
)  # fmt: skip
def test_every_weight_is_within_half_a_step(seed: int, size: float, columns: int) -> None:
    """Of three bits of fraction; of the smallest subnormal number where it is one."""
    groups = size * torch.randn(7, columns, generator=torch.Generator().manual_seed(seed))
    codes, scales = float8_groups(groups)
    found = codes.float() * scales
    allowed = torch.maximum(groups.abs() * 2.0**-4, scales * 2.0**-10) * (1 + 1e-6)
    assert bool(((found - groups).abs() <= allowed).all())
    assert not holds_nan(codes)


def test_scales_beat_the_covering_one() -> None:
    groups = torch.randn(256, 64, generator=torch.Generator().manual_seed(0))
    codes, scales = float8_groups(groups)
    cover = groups.abs().amax(1, keepdim=True) / LARGEST
    plain = round_to_float8(groups / cover).float() * cover - groups
    error = codes.float() * scales - groups
    assert error.square().sum() < 0.95 * plain.square().sum()
    assert bool((error.square().sum(1) <= plain.square().sum(1)).all())


@pytest.mark.parametrize("power", [-20, 0, 5])
def test_floats_of_a_power_of_two_come_back(power: int) -> None:
    weight = random_float8(16, 128).float() * 2.0**power
    assert torch.equal(dequantize(quantize(weight, parse_format("fp8:64"), "w")), weight)


def test_zeros_stay_zeros() -> None:
    assert bool((dequantize(quantize(torch.zeros(3, 64), parse_format("fp8"), "w")) == 0).all())


def test_bytes_are_those_of_codes_and_scales() -> None:
    assert Format("fp8").matrix_bytes(16, 96) == 16 * (96 + 4)
    assert Format("fp8", 128).matrix_bytes(9, 256) == 16 * (256 + 2 * 4)


def test_nan_is_seen() -> None:
    for bits in (0x7F, 0xFF):
        assert holds_nan(torch.tensor([0, bits], dtype=torch.uint8).view(torch.float8_e4m3fn))
    assert not holds_nan(torch.tensor([0x7E, 0xFE], dtype=torch.uint8).view(torch.float8_e4m3fn))
