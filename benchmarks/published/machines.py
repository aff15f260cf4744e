"""The machines of the published rows: those that ship, and what a system changes about them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from lm_offload.hardware.curve import Curve
from lm_offload.hardware.link import Link
from lm_offload.hardware.machine_file import load_machine
from lm_offload.hardware.profile import HardwareProfile

GIB = 2**30
HEADS_PER_KV_HEAD = 4  # of Mixtral 8x7B
REFIT_DECODE_FLOPS = 1.4755e12 * 1.808  # mm_flops_g of the refit, which counts one of two experts
REFIT_PREFILL_FLOPS = 3.5068e12 * 1.808  # mm_flops_p
FLEXGEN_CPU_ATTENTION = 12.3e9  # bytes/s of KV, from FlexGen's own fit


def machine(name: str) -> HardwareProfile:
    """A machine of the `machine` column."""
    return VARIANTS[name]() if name in VARIANTS else load_machine(name)


def slow_disk() -> HardwareProfile:
    """FlexGen's test bed with the disk of the table in ZeRO-Inference's README."""
    return replace(load_machine("t4-208gb"), disk_read=Link(_constant(1.2e9)))


def flexgen_kernels() -> HardwareProfile:
    """MoE-Lightning's T4 as FlexGen uses it.

    Products of few rows run at the refitted decode rate. Its CPU attention is the one of OPT; that
    it expands the KV heads of Mixtral is inferred, the code was not published.
    """
    base = load_machine("t4-192gb")
    if base.gpu is None:
        raise ValueError("t4-192gb has no GPU")
    knee = REFIT_DECODE_FLOPS / base.gpu.memory_bytes_per_s  # rows: 2 FLOPs and 2 bytes each
    rates = (base.gpu.memory_bytes_per_s, *[REFIT_DECODE_FLOPS] * 2, REFIT_PREFILL_FLOPS)
    products = Curve((1, knee, 256, 512), rates)
    attention = _constant(FLEXGEN_CPU_ATTENTION / HEADS_PER_KV_HEAD)
    return replace(
        base,
        gpu=replace(base.gpu, product_flops={"bf16": products, "fp16": products}),
        cpu=replace(base.cpu, decode_attention_bytes_per_s={"bf16": attention, "fp16": attention}),
    )


def nominal_l4() -> HardwareProfile:
    """MoE-Lightning's L4 with the constants of its own planner (HardwareConfig)."""
    base, link = load_machine("l4-192gb"), Link(_constant(16.0 * GIB))
    gpu = replace(base.gpu, memory_bytes_per_s=285.0 * GIB) if base.gpu else None
    return replace(base, gpu=gpu, h2d=link, d2h=link)


VARIANTS: dict[str, Callable[[], HardwareProfile]] = {
    "t4-208gb at 1.2 GB/s of disk": slow_disk,
    "t4-192gb with FlexGen's kernels": flexgen_kernels,
}


def _constant(rate: float) -> Curve:
    return Curve((1.0,), (rate,))
