"""Rows of the KV cache: error bounds, exact bytes, and rows that do not touch one another."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_offload.errors import ConfigError
from lm_offload.quant.kv import channel_groups, dequantize_rows, quantize_rows, row_bytes

HEAD_DIMS = [16, 64, 80, 96, 128, 256]


@pytest.mark.parametrize("bits", [8, 4])
@given(
    head_dim=st.sampled_from(HEAD_DIMS),
    tokens=st.integers(1, 5),
    size=st.sampled_from([1e-4, 1.0, 50.0]),
    shift=st.sampled_from([0.0, 5.0]),
    seed=st.integers(0, 100),
)
@settings(max_examples=30)
def test_an_error_is_at_most_half_a_step(bits, head_dim, tokens, size, shift, seed):
    noise = torch.randn(tokens, 2, head_dim, generator=torch.Generator().manual_seed(seed))
    rows = size * (noise + shift)
    codes = quantize_rows(rows, bits)
    assert codes.values.shape == rows.shape
    assert codes.scales.shape == (tokens, 2, channel_groups(bits, head_dim))
    steps = codes.scales.float().abs().repeat_interleave(head_dim // codes.scales.shape[-1], -1)
    error = (dequantize_rows(codes) - rows).abs()
    assert bool((error <= steps / 2 * (1 + 1e-3)).all())
    widest = 2 * float(rows.abs().max()) / (254 if bits == 8 else 15)
    assert float(steps.max()) <= widest * 1.01 + 2**-24


@pytest.mark.parametrize("bits", [8, 4])
def test_a_row_depends_on_itself_only(bits):
    rows = torch.randn(6, 128)
    back = dequantize_rows(quantize_rows(rows, bits))
    rows[3, 7] = float("nan")
    rows[4] = 0
    rows[5, 0] = float("inf")
    broken = dequantize_rows(quantize_rows(rows, bits))
    assert torch.equal(broken[:3], back[:3])
    assert bool(broken[3].isnan().any())
    assert bool((broken[4] == 0).all())
    assert not bool(broken[5].isfinite().all())


def test_bytes_are_those_of_codes_and_factors():
    for head_dim in HEAD_DIMS:
        for bits in (8, 4):
            codes = quantize_rows(torch.randn(1, head_dim), bits)
            factors = codes.scales.numel() * (1 if codes.minimums is None else 2)
            assert row_bytes(bits, head_dim) == head_dim * bits // 8 + 2 * factors
    assert row_bytes(8, 128) == 130
    assert row_bytes(4, 128) == 72


def test_heads_that_no_group_fits_are_refused():
    with pytest.raises(ConfigError, match="Heads of 130 channels"):
        row_bytes(4, 130)
