"""Attention over caches of several formats and shapes of heads."""

from __future__ import annotations

from lm_offload.hardware.attention_probe import measure_attention
from lm_offload.hardware.attention_rates import HeadShape
from lm_offload.hardware.attention_setting import ON_CPU, Setting, among
from lm_offload.hardware.memory_probe import probe_memory
from lm_offload.kernels.base import Kernels
from lm_offload.units import MIB
from tests.hardware.probing import BUDGET_S, check


def test_attention(kernels: Kernels) -> None:
    shapes = {"bf16": [HeadShape(64, 1), HeadShape(64, 4)], "fp32": [HeadShape(64, 4)]}
    rates = measure_attention(kernels, shapes, (5, 64), probe_memory(MIB), 1e-6, 0.5)
    for curves in (rates.decode_bytes_per_s, rates.prefill_flops):
        assert curves.keys() == {"bf16/64x1", "bf16/64x4", "fp32/64x4"}
        check(curves.values())
    assert rates.decode_bytes_per_s["bf16/64x4"].sizes == (5.0, 64.0)
    assert rates.prefill_flops["bf16/64x4"].sizes == (3.0, 32.5)  # the mean over the rows


def test_contexts_that_do_not_fit_are_left_out(kernels: Kernels) -> None:
    shapes = {"bf16": [HeadShape(64, 1)]}
    rates = measure_attention(kernels, shapes, (16, 1 << 20), probe_memory(MIB), 0.0, BUDGET_S)
    assert rates.decode_bytes_per_s["bf16/64x1"].sizes == (16,)


def test_attention_over_blocks_that_lie_apart(kernels: Kernels) -> None:
    shapes = {"bf16": [HeadShape(64, 1), HeadShape(64, 4)], "int4:64": [HeadShape(64, 1)]}
    rates = measure_attention(kernels, shapes, (16, 512), probe_memory(4 * MIB), 1e-6, 0.5)
    assert rates.apart_frac.keys() == {"bf16", "int4:64"}
    assert all(0 < frac <= 1 for frac in rates.apart_frac.values())


def test_decode_out_of_the_cache(kernels: Kernels) -> None:
    """Of every shape whose keys and values it keeps in several layers; never slower than others."""
    shapes = {"bf16": [HeadShape(64, 1), HeadShape(64, 4)]}
    setting, memory = Setting(cached_bytes=4 * MIB), probe_memory(16 * MIB)
    rates = measure_attention(kernels, shapes, (16, 512, 1024), memory, 1e-6, 0.5, setting)
    assert rates.cached_speedup.keys() == {"bf16/64x1", "bf16/64x4"}
    for curve in rates.cached_speedup.values():
        assert curve.sizes == (512.0,)
        assert min(curve.rates) >= 1.0
    elsewhere = measure_attention(kernels, shapes, (16, 512), memory, 1e-6, 0.2)
    assert elsewhere.cached_speedup == {}


def test_decode_is_replayed_and_prompts_are_asked_for(kernels: Kernels) -> None:
    """Each with what a call of its own kind takes beside its work taken off."""
    setting = among(lambda: None, replay_s=1e-7, cache_bytes=MIB)
    assert [setting.fixed_s(kind, 2e-6) for kind in ("decode", "apart", "prefill")] == [
        1e-7,
        1e-7,
        2e-6,
    ]
    assert ON_CPU.fixed_s("decode", 2e-6) == 2e-6
    shapes = {"bf16": [HeadShape(64, 4)], "int8:row": [HeadShape(64, 4)]}
    memory = probe_memory(4 * MIB)
    rates = measure_attention(kernels, shapes, (16, 512), memory, 2e-6, 0.5, setting)
    for curves in (rates.decode_bytes_per_s, rates.prefill_flops):
        assert curves.keys() == {"bf16/64x4", "int8:row/64x4"}
        check(curves.values())
