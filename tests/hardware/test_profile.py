from __future__ import annotations

import pytest

from lm_offload.hardware.attention_rates import HeadShape, split_key
from lm_offload.hardware.curve import Curve
from lm_offload.hardware.link import Link
from lm_offload.hardware.processor import Processor
from lm_offload.hardware.product_rates import CACHED_SIZE, MEMORY_SIZE
from lm_offload.quant.format import parse_format

BF16 = parse_format("bf16")


def processor(**more: object) -> Processor:
    return Processor(threads=2, memory_bytes=1, memory_bytes_per_s=10e9, peak_flops=1e12, **more)


def test_a_curve_is_straight_on_logarithmic_axes_and_flat_beyond_its_ends() -> None:
    curve = Curve((1.0, 100.0), (10.0, 1000.0))
    assert [curve.at(size) for size in (0.1, 1, 10, 100, 1e6)] == pytest.approx(
        [10, 10, 100, 1000, 1000]
    )


def test_a_transfer_pays_its_request_and_the_rate_of_its_block() -> None:
    link = Link(Curve((1e3, 1e6), (1e8, 1e9)), request_s=1e-4, block_bytes=1_000_000)
    assert link.transfer_s(0) == 0
    assert link.transfer_s(1e3) == pytest.approx(1e-4 + 1e-5)
    assert link.transfer_s(1e9) == pytest.approx(1e-4 + 1)


def test_a_product_without_a_curve_is_on_the_roofline() -> None:
    assert processor().product_s(BF16, 1, 1e9) == pytest.approx(2e9 / 10e9)
    assert processor().product_s(BF16, 1000, 1e9) == pytest.approx(2e12 / 1e12)


def test_a_product_takes_the_curve_of_its_format_and_place() -> None:
    cpu = processor(
        product_flops={"bf16": Curve((1.0,), (1e9,)), "int4:64": Curve((1.0,), (4e9,))},
        cached_product_flops={"bf16": Curve((1.0,), (2e9,))},
    )
    assert cpu.product_s(BF16, 1, 1e9) == 2.0
    assert cpu.product_s(BF16, 1, 1e9, cached=True) == 1.0
    assert cpu.product_s(parse_format("int4:32"), 1, 1e9, cached=True) == 0.5  # groups alike


def test_what_exceeds_the_cache_comes_from_memory_little_by_little_where_that_is_measured() -> None:
    curve = Curve((16.0, 32.0, 64.0), (10.0, 4.0, 2.0))
    measured, named = processor(cache_bytes_per_s=curve), processor(cache_bytes=32)
    fracs = [measured.missed_frac(size) for size in (8, 16, 32, 64, 1e9)]
    assert fracs == pytest.approx([0.0, 0.0, 0.15 / 0.4, 1.0, 1.0])
    assert [named.missed_frac(size) for size in (16, 32, 33)] == [0.0, 0.0, 1.0]
    flat = processor(cache_bytes=32, cache_bytes_per_s=Curve((1.0,), (5.0,)))
    assert [flat.missed_frac(size) for size in (32, 33)] == [0.0, 1.0]


def test_values_of_inputs_and_outputs_take_time_beside_the_flops() -> None:
    cpu = processor(
        product_flops={"bf16": Curve((1.0,), (1e9,))},
        product_input_s={"bf16": 1e-6},
        product_output_s={"bf16": 1e-7},
    )

    def more_s(rows: int, inputs: int, outputs: int) -> float:
        """Than by its FLOPs alone."""
        weights = inputs * outputs
        return cpu.product_s(BF16, rows, weights, width=inputs) - 2 * rows * weights / 1e9

    assert more_s(3, 512, 2048) == pytest.approx(3 * (512 - 2048) * 1e-6)  # for four of 512 x 512
    assert more_s(3, 2048, 512) == pytest.approx(3 * (2048 - 512) * 1e-6 + 3 * (512 - 512) * 1e-7)
    assert more_s(3, 128, 128) == pytest.approx(3 * (128 - 32) * 1.1e-6)
    assert more_s(3, 1024, 1024) == pytest.approx(0.0, abs=1e-12)
    rows, int8 = 3, parse_format("int8")
    assert cpu.product_s(BF16, rows, 1e6) == 2 * rows * 1e6 / 1e9  # as of those that were measured
    assert cpu.product_s(BF16, 1, 1e8, width=1) > 0
    unknown = processor(product_flops=cpu.product_flops)
    assert cpu.product_s(int8, rows, 1e6) == unknown.product_s(int8, rows, 1e6)


def test_narrow_matrices_are_as_slow_from_memory_as_from_the_cache() -> None:
    cpu = processor(
        product_flops={"bf16": Curve((1.0, 64.0), (1e9, 9e9))},
        cached_product_flops={"bf16": Curve((1.0, 64.0), (4e9, 4e9))},
    )

    def flops(rows: int, cached: bool, width: int) -> float:
        return 2.0 * rows * 1e9 / cpu.product_s(BF16, rows, 1e9, cached, width)

    assert [flops(64, cached, 384) for cached in (False, True)] == pytest.approx([4e9, 4e9])
    assert [flops(64, cached, 6000) for cached in (False, True)] == pytest.approx([9e9, 9e9])
    between = int((CACHED_SIZE * MEMORY_SIZE) ** 0.5)  # half of the way on a logarithmic axis
    assert flops(64, False, between) == pytest.approx(6e9, rel=1e-3)
    assert [flops(1, False, width) for width in (384, between)] == pytest.approx([1e9, 1e9])
    assert [flops(1, True, width) for width in (384, 6000)] == pytest.approx([4e9, 4e9])


def test_elementwise_kernels_fall_back_to_the_rate_of_all() -> None:
    cpu = processor(operation_bytes_per_s={"rotary": Curve((1.0,), (2e9,))})
    assert cpu.operation_s("rotary", 2e9) == 1.0
    assert cpu.operation_s("relu", 10e9) == 1.0
    assert processor(elementwise_bytes_per_s=1e9).operation_s("relu", 10e9) == 10.0


def attention_s(shape: HeadShape, **rates: float) -> float:
    curves = {name.replace("_", "/"): Curve((1.0,), (rate,)) for name, rate in rates.items()}
    cpu = processor(decode_attention_bytes_per_s=curves)
    return cpu.decode_attention_s(BF16, shape, 128, 1e9)


def test_attention_depends_on_the_shape_of_the_heads() -> None:
    rates = {"bf16_64x2": 1e9, "bf16_64x4": 0.5e9, "bf16_128x2": 2e9}
    assert attention_s(HeadShape(64, 2), **rates) == pytest.approx(1.0)
    assert attention_s(HeadShape(64, 1), **rates) == pytest.approx(1.0)
    assert attention_s(HeadShape(64, 3), **rates) == pytest.approx(1.5)
    assert attention_s(HeadShape(64, 8), **rates) == pytest.approx(4.0)
    assert attention_s(HeadShape(256, 4), **rates) == pytest.approx(1.0)


def test_attention_is_faster_over_what_the_cache_keeps() -> None:
    """Less so with more queries a KV head, which compute longer, and never slower."""
    faster = {"bf16/64x1": Curve((512.0,), (4.0,)), "bf16/64x4": Curve((512.0,), (2.0,))}
    cpu = processor(attention_cached_speedup=faster)

    def seconds(group: int, missed_frac: float) -> float:
        return cpu.decode_attention_s(BF16, HeadShape(64, group), 64, 10e9, missed_frac)

    assert [seconds(1, m) for m in (1.0, 0.5, 0.0)] == pytest.approx([1.0, 0.625, 0.25])
    assert [seconds(group, 0.0) for group in (2, 4, 8, 16)] == pytest.approx([1 / 3, 0.5, 1.0, 1.0])
    assert cpu.decode_attention_s(BF16, HeadShape(64, 1), 64, 10e9) == pytest.approx(1.0)


def test_attention_of_a_format_without_shapes_holds_for_all() -> None:
    assert attention_s(HeadShape(80, 7), bf16=1e9) == pytest.approx(1.0)
    assert attention_s(HeadShape(80, 7), fp32=1e9) == pytest.approx(1.0)  # no other is known
    assert attention_s(HeadShape(80, 7)) == pytest.approx(0.1)  # as memory


@pytest.mark.parametrize("key", ["bf16/", "bf16/64", "bf16/0x1", "bf16/64x0", "bf16/axb"])
def test_keys_that_name_no_shape_are_refused(key: str) -> None:
    with pytest.raises(ValueError, match="no shape of heads"):
        split_key(key)
