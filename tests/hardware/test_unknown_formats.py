"""A format without a curve reaches as much of its roofline as one that has a curve."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lm_offload.hardware.attention_rates import HeadShape
from lm_offload.hardware.curve import Curve
from lm_offload.hardware.processor import Processor
from lm_offload.quant.format import parse_format

FP16, INT8 = parse_format("fp16"), parse_format("int8:row")
PLAIN = Processor(1, 10**10, memory_bytes_per_s=1e11, peak_flops=1e13)
KNOWN = replace(
    PLAIN,
    product_flops={"fp16": Curve((1, 1000), (5e10, 4e12))},
    decode_attention_bytes_per_s={"fp16": Curve((1.0,), (2e10,))},
)
SHAPE = HeadShape(64, 4)


def test_products():
    weights = 1e9
    for rows in (1, 1000):
        fp16_s, int8_s = (KNOWN.product_s(format, rows, weights) for format in (FP16, INT8))
        rooflines = [PLAIN.product_s(format, rows, weights) for format in (FP16, INT8)]
        assert int8_s / fp16_s == pytest.approx(rooflines[1] / rooflines[0])
    assert KNOWN.product_s(INT8, 1, weights) < 0.6 * KNOWN.product_s(FP16, 1, weights)
    many_s = [KNOWN.product_s(format, 1000, weights) for format in (FP16, INT8)]
    assert many_s[0] == pytest.approx(many_s[1])


def test_products_with_rounded_activations():
    """Their own curve, else that of the same bytes; never the other way round."""
    slow, fast = Curve((1.0,), (1e11,)), Curve((1.0,), (2e11,))
    both = replace(PLAIN, product_flops={"int4:64:a8": fast, "int4:64": slow})
    one = replace(PLAIN, product_flops={"int4:64": slow})
    for names, processor, wanted_s in (
        (("int4:64:a8", "int4:32:a8"), both, 1.0),
        (("int4:64", "int4:32"), both, 2.0),
        (("int4:64:a8", "int4:32:a8"), one, 2.0),
    ):
        for name in names:
            assert processor.product_s(parse_format(name), 1, 1e11) == pytest.approx(wanted_s)


def test_products_with_mxfp4():
    """Its own curve, else that of int4, as in profiles from before it was measured."""
    slow, fast = Curve((1.0,), (1e11,)), Curve((1.0,), (2e11,))
    old = replace(PLAIN, product_flops={"int4:64": slow})
    new = replace(PLAIN, product_flops={"int4:64": slow, "mxfp4": fast})
    for processor, name, wanted_s in (
        (old, "mxfp4", 2.0),
        (new, "mxfp4", 1.0),
        (new, "int4:32", 2.0),
    ):
        assert processor.product_s(parse_format(name), 1, 1e11) == pytest.approx(wanted_s)


def test_attention_in_decode():
    assert KNOWN.decode_attention_s(INT8, SHAPE, 100, 2e10) == pytest.approx(1.0)
    assert PLAIN.decode_attention_s(INT8, SHAPE, 100, 2e10) == pytest.approx(0.2)
