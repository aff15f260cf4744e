"""Weights as e2m1 floats with powers of two: nearest ones, and those that were such before."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lm_offload.quant.float4 import float4_groups, float4_values, round_to_float4
from lm_offload.quant.format import parse_format
from lm_offload.quant.packing import pack
from lm_offload.quant.quantize import dequantize, quantize
from tests.kernels.packed import random_float4

MXFP4 = parse_format("mxfp4")
SIZES = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]  # of the definition
ALL = torch.tensor([*SIZES, *(-size for size in SIZES)])


def test_values_are_those_of_the_definition() -> None:
    codes = torch.arange(16, dtype=torch.uint8)
    assert torch.equal(float4_values(codes), ALL)
    assert torch.equal(round_to_float4(ALL), codes)


@given(st.floats(-8, 8, width=32))
def test_rounding_finds_a_nearest_float(value: float) -> None:
    found = float4_values(round_to_float4(torch.tensor([value])))
    assert abs(float(found) - value) == float((ALL - torch.tensor(value)).abs().min())


def test_ties_go_to_even_codes() -> None:
    ties = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0])
    assert round_to_float4(ties).tolist() == [0, 2, 2, 4, 4, 6, 6]
    assert round_to_float4(-ties).tolist() == [8, 10, 10, 12, 12, 14, 14]


def test_weights_that_were_such_floats_come_back() -> None:
    for seed in range(20):
        torch.manual_seed(seed)
        codes = random_float4(16, 128)
        codes.values[:8] &= 0b1011  # groups whose largest value is small
        weight = dequantize(pack(codes, MXFP4))
        assert torch.equal(dequantize(quantize(weight, MXFP4, "w")), weight)


@pytest.mark.parametrize("size", [1e-38, 1e-20, 0.02, 1.0, 1e30])
def test_every_weight_is_within_half_a_step(size: float) -> None:
    """Of the octave from 4 on, too, of which what lies beyond 6 is cut off."""
    groups = size * torch.randn(200, 32, generator=torch.Generator().manual_seed(0))
    codes, scales = float4_groups(groups)
    errors = (float4_values(codes) * scales.float() - groups).abs()
    step = torch.maximum(groups.abs() / 4, scales.float() / 4)
    assert bool((errors <= step * (1 + 1e-6)).all())


def test_the_better_of_two_powers_is_taken() -> None:
    groups = torch.randn(400, 32, generator=torch.Generator().manual_seed(0))
    codes, scales = float4_groups(groups)
    error = (float4_values(codes) * scales.float() - groups).square().sum(1)
    covering = 2.0 ** (groups.abs().amax(1, keepdim=True) / 6).log2().ceil()
    plain = (float4_values(round_to_float4(groups / covering)) * covering - groups).square().sum(1)
    assert bool((error <= plain).all())
    assert error.sum() < 0.99 * plain.sum()


def test_zeros_stay_zeros() -> None:
    assert bool((dequantize(quantize(torch.zeros(3, 64), MXFP4, "w")) == 0).all())
