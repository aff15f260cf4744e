"""Quantizing: error bounds, better than round-to-nearest, the same bits however it is cut."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lm_offload.errors import CheckpointError, ConfigError
from lm_offload.quant import quantize as module
from lm_offload.quant.format import Format, parse_format
from lm_offload.quant.packing import unpack
from lm_offload.quant.quantize import dequantize, quantize

FORMATS = ["int8:row", "int8:32", "int8:64", "int4:32", "int4:64", "int4:128", "int4:64:sym"]
FLOATS = ["fp8:row", "fp8:32", "fp8:128"]
ALL = [*FORMATS, *FLOATS, "mxfp4"]
FP16_TINY = 2.0**-24  # distance of the smallest fp16 numbers


def noise(rows: int, columns: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


matrices = st.builds(
    lambda rows, groups, seed, size, shift: size * (noise(rows, 128 * groups, seed) + shift),
    rows=st.integers(1, 20),
    groups=st.integers(1, 3),
    seed=st.integers(0, 1000),
    size=st.sampled_from([1e-9, 1e-4, 0.02, 1.0, 300.0]),
    shift=st.sampled_from([0.0, 0.0, -0.5, 3.0]),
)


def grouped(weight: Tensor, format: Format) -> Tensor:
    return weight.reshape(-1, format.group_size or weight.shape[1])


def nearest_errors(weight: Tensor, format: Format) -> Tensor:
    """Squared error of each group by the extremes of the group, scales not even rounded."""
    groups = grouped(weight, format)
    low, high = groups.aminmax(dim=1, keepdim=True)
    if format.symmetric:
        low, levels = torch.zeros_like(low), 127 if format.name == "int8" else 7
        scale = groups.abs().amax(1, keepdim=True) / levels
    else:
        scale = (high - low) / 15
    rounded = ((groups - low) / scale).round() * scale + low
    return (rounded - groups).square().sum(1)


@pytest.mark.parametrize("text", FORMATS)
@given(weight=matrices)
@settings(max_examples=25)
def test_no_group_is_further_off_than_half_a_covering_step(text: str, weight: Tensor) -> None:
    format = parse_format(text)
    groups = grouped(weight, format)
    low, high = groups.aminmax(dim=1)
    spread = 2 * groups.abs().amax(1) if format.symmetric else high - low
    levels = {"int8": 254, "int4": 14 if format.symmetric else 15}[format.name]
    # fp16 rounds a minimum by up to 2^-10 of it, which the scale must cover as well
    step = (spread + low.abs() / 1024 + 2 * FP16_TINY) / levels * (1 + 1 / 1024) + FP16_TINY
    error = grouped(dequantize(quantize(weight, format, "w")), format) - groups
    assert bool((error.square().mean(1) <= (step / 2).square()).all())


@pytest.mark.parametrize("text", FORMATS)
def test_it_beats_rounding_to_nearest(text: str) -> None:
    format = parse_format(text)
    weight = noise(64, 512)
    error = (dequantize(quantize(weight, format, "w")) - weight).square().sum()
    part = 0.995 if format.name == "int8" else 0.9
    assert error < part * nearest_errors(weight, format).sum()


@pytest.mark.parametrize("text", FORMATS)
def test_values_on_a_grid_come_back_exactly(text: str) -> None:
    format = parse_format(text)
    codes = (noise(9, 256) * 4).round().clamp(-7, 7)
    codes[:, ::32], codes[:, 1::32] = -7, 7 if format.symmetric else 8
    codes = codes / 7 * 127 if format.name == "int8" else codes
    weight = codes.round() * 0.25
    assert torch.equal(dequantize(quantize(weight, format, "w")), weight)


@pytest.mark.parametrize("text", [*FORMATS, *FLOATS])
@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, 1e-7, -1e-20, 65000.0])
def test_equal_weights_are_kept(text: str, value: float) -> None:
    format = parse_format(text)
    weight = torch.full((3, 128), value)
    back = dequantize(quantize(weight, format, "w"))
    assert torch.allclose(back, weight, rtol=2**-11, atol=FP16_TINY / 2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_any_float_dtype_and_stride_gives_the_same_bytes(dtype: torch.dtype) -> None:
    format = parse_format("int4:64")
    weight = noise(24, 128).to(dtype)
    packed = quantize(weight, format, "w")
    assert torch.equal(packed.data, quantize(weight.float(), format, "w").data)
    assert torch.equal(packed.data, quantize(weight.t().contiguous().t(), format, "w").data)


@pytest.mark.parametrize("text", ALL)
@given(weight=matrices)
@settings(max_examples=10)
def test_a_row_does_not_depend_on_the_others(text: str, weight: Tensor) -> None:
    format = parse_format(text)
    whole = unpack(quantize(weight, format, "w"))
    for row in (0, len(weight) - 1):
        alone = unpack(quantize(weight[row : row + 1], format, "w"))
        assert torch.equal(alone.values[0].float(), whole.values[row].float())
        assert torch.equal(alone.scales[0].float(), whole.scales[row].float())


@pytest.mark.parametrize("text", ALL)
def test_chunks_do_not_change_the_bytes(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    format = parse_format(text)
    weight = noise(45, 384)
    whole = quantize(weight, format, "w")
    monkeypatch.setattr(module, "CHUNK_WEIGHTS", 5000)
    assert torch.equal(quantize(weight, format, "w").data, whole.data)


def test_threads_do_not_change_the_bytes() -> None:
    format = parse_format("int4:64")
    weight = noise(96, 768)  # large enough for torch to share it out
    alone = quantize(weight, format, "w")
    try:
        torch.set_num_threads(2)
        together = quantize(weight, format, "w")
    finally:
        torch.set_num_threads(1)
    assert torch.equal(together.data, alone.data)


@pytest.mark.parametrize("text", ALL)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_name_the_tensor(text: str, value: float) -> None:
    weight = noise(9, 128)
    weight[8, 100] = value
    with pytest.raises(CheckpointError, match="up_proj holds weights that are not finite"):
        quantize(weight, parse_format(text), "up_proj")


@pytest.mark.parametrize("text", FORMATS)
def test_weights_too_large_for_the_scales_are_refused(text: str) -> None:
    weight = noise(9, 128)
    weight[8, 100] = -1e10
    with pytest.raises(CheckpointError, match=r"q_proj holds weights up to 1e\+10, too large"):
        quantize(weight, parse_format(text), "q_proj")


def test_columns_that_no_group_fits_name_the_tensor() -> None:
    with pytest.raises(ConfigError, match="o_proj has 96 columns"):
        quantize(noise(8, 96), parse_format("int4:64"), "o_proj")
