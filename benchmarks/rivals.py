"""The search spaces and kernels of FlexGen and ZeRO-Inference, for the same search and simulator.

Every choice that a system can make is made for it by our search and re-ranked by our simulation,
which is kinder to it than its own cost model. What a system cannot do is not in its space.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lm_offload.hardware.curve import Curve
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.planner.policies.choices import ON_GPU, SPLIT, Choices
from lm_offload.planner.policies.policy import Share
from lm_offload.quant.format import Format

FP16, INT4 = Format("fp16"), Format("int4", 64, symmetric=False)
TORCH_ATTENTION = 0.25  # of memory bandwidth: copies to float32 move 3 to 6 times the bytes
FUSED_ATTENTION = 0.6  # MoE-Lightning's kernel: 45 of 81 GB/s
CACHES = (Share(gpu=1.0), Share(cpu=1.0))


@dataclass(frozen=True)
class System:
    """What a system can choose from, and how fast its attention on the CPU is."""

    name: str
    spaces: Sequence[Choices]
    attention_frac: float  # of memory bandwidth

    def machine(self, base: HardwareProfile) -> HardwareProfile:
        """The machine as this system's kernels use it."""
        rate = Curve((1.0,), (self.attention_frac * base.cpu.memory_bytes_per_s,))
        cpu = replace(base.cpu, decode_attention_bytes_per_s={"fp16": rate})
        return replace(base, cpu=cpu)


def flexgen() -> System:
    """Precision of the checkpoint: its cost model does not know quantization."""
    return System("FlexGen", (_flexgen(FP16, FP16),), TORCH_ATTENTION)


def flexgen_compressed() -> System:
    """4-bit weights or cache, unpacked for every micro-batch, and then no attention on the CPU."""
    pairs = ((INT4, FP16), (FP16, INT4), (INT4, INT4))
    spaces = tuple(replace(_flexgen(*pair), decode=(ON_GPU,)) for pair in pairs)
    return System("FlexGen(c)", spaces, TORCH_ATTENTION)


def lm_offload() -> System:
    """What LM-Offload published: FlexGen's runtime, in which a model decides what to quantize.

    Its control of threads is left out: how much faster it makes attention was not published.
    """
    both = replace(_flexgen(FP16, FP16), weight_formats=(FP16, INT4), kv_formats=(FP16, INT4))
    return System("LM-Offload", (both,), TORCH_ATTENTION)


def zero_inference() -> System:
    """All weights on the CPU, one batch as large as fits, the cache on the GPU or on the CPU."""
    base = Choices(
        weight_formats=(FP16, INT4),
        kv_formats=(FP16,),
        prefill=(ON_GPU,),
        micro_batch_counts=(1,),
        schedules=("zigzag",),
        dequantize=("micro_batch",),
        prefetch_units=(1,),
        weights=Share(cpu=1.0),
        activations=Share(gpu=1.0),
    )
    on_gpu = replace(base, kv=Share(gpu=1.0), decode=(ON_GPU,))
    on_cpu = replace(base, kv=Share(cpu=1.0), decode=(SPLIT,))
    return System("ZeRO-Inference", (on_gpu, on_cpu), TORCH_ATTENTION)


def searched() -> System:
    """Everything that this project's planner knows, in 16 and 4 bits."""
    return System("searched", (Choices((FP16, INT4), (FP16, INT4)),), FUSED_ATTENTION)


def searched_exact() -> System:
    """The same without quantization."""
    return System("searched, exact", (Choices((FP16,), (FP16,)),), FUSED_ATTENTION)


def _flexgen(weights: Format, kv: Format) -> Choices:
    return Choices(
        weight_formats=(weights,),
        kv_formats=(kv,),
        prefill=(ON_GPU,),
        decode=(ON_GPU, SPLIT),
        schedules=("flexgen",),
        dequantize=("micro_batch",),
        prefetch_units=(1,),
        kv_pinned=False,
    )
