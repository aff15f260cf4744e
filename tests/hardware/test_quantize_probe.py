"""Quantizing and back."""

from __future__ import annotations

from lm_offload.hardware.quantize_probe import measure_quantizing
from lm_offload.quant.format import parse_format
from lm_offload.quant.quantize import quantize
from tests.hardware.probing import BUDGET_S


def test_quantizing() -> None:
    forward, back = measure_quantizing(quantize, [parse_format("int8")], BUDGET_S)
    assert back["int8:64"] > 0
    assert all(rate > 0 for rate in forward.values())
