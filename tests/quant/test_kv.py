"""Formats of the KV cache: rounding errors, exact bytes, the layout and its inverse."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lm_offload.errors import ConfigError
from lm_offload.quant.kv import dequantize_heads, quantize_heads
from lm_offload.quant.kv_blocks import CacheShape, blocks_in, read_blocks, write_tokens
from lm_offload.quant.kv_format import KV_FORMATS, check_head_dim, head_bytes, parse_kv_format

PACKED = pytest.mark.parametrize("name", ["int8", "int4"])


@pytest.mark.parametrize(
    ("name", "head_dim", "size_bytes"),
    [("fp32", 80, 320), ("bf16", 80, 160), ("int8", 128, 130), ("int4", 64, 36), ("int4", 80, 48)],
)
def test_exact_bytes_of_a_head(name: str, head_dim: int, size_bytes: int) -> None:
    assert head_bytes(parse_kv_format(name), head_dim) == size_bytes


@pytest.mark.parametrize("text", ["int3", "", "int4:32", "float16"])
def test_unknown_formats_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"not known; allowed are fp32, .*int4"):
        parse_kv_format(text)


def test_head_sizes() -> None:
    check_head_dim(KV_FORMATS["int4"], 72)
    check_head_dim(KV_FORMATS["bf16"], 13)
    with pytest.raises(ConfigError, match="heads of 12 channels"):
        check_head_dim(KV_FORMATS["int8"], 12)


@PACKED
@given(
    head_dim=st.integers(1, 20).map(lambda eights: 8 * eights),
    shift=st.floats(-3, 3),
    exponent=st.integers(-8, 8),
)
def test_values_are_within_half_a_step(
    name: str, head_dim: int, shift: float, exponent: int
) -> None:
    format = KV_FORMATS[name]
    x = (torch.randn(5, 3, head_dim) + shift) * 2.0**exponent
    heads = quantize_heads(x, format)
    step = heads.scales.float().repeat_interleave(format.group_size or head_dim, -1)[..., :head_dim]
    # The fp16 scale and minimum may cut off a little at the ends.
    room = 2.0**-10 * x.abs().amax(-1, keepdim=True)
    error = (dequantize_heads(heads, format) - x).abs()
    assert (error <= 0.5 * step + room).all()
    levels = 254 if name == "int8" else 15
    spread = 2 * x.abs().amax() if name == "int8" else x.amax() - x.amin()
    assert (step <= 1.01 * spread / levels + room).all()


@PACKED
@pytest.mark.parametrize("lanes", ["tokens", "channels"])
@pytest.mark.parametrize("head_dim", [8, 64, 72])
def test_blocks_give_back_what_was_written(name: str, lanes, head_dim: int) -> None:
    format = KV_FORMATS[name]
    shape = CacheShape(5, 2, head_dim, format)
    data = torch.randint(0, 255, (shape.size_bytes,), dtype=torch.uint8)
    blocks = blocks_in(data.clone(), shape, lanes)
    assert blocks.shape == (5, 2, 16, head_dim)
    x, slots = torch.randn(30, 2, head_dim), torch.randperm(80)[:30]
    write_tokens(blocks, x[:17], slots[:17])
    write_tokens(blocks, x[17:], slots[17:])
    known = read_blocks(blocks, torch.arange(5)).transpose(1, 2).flatten(0, 1)
    assert torch.equal(known[slots], dequantize_heads(quantize_heads(x, format), format))
    untouched = read_blocks(blocks_in(data, shape, lanes), torch.arange(5))
    others = torch.ones(80, dtype=torch.bool).index_fill_(0, slots, False)
    before = untouched.transpose(1, 2).flatten(0, 1)[others]
    torch.testing.assert_close(known[others], before, rtol=0, atol=0, equal_nan=True)
