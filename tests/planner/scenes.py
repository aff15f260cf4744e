"""A machine of round numbers and models of few layers, so that times can be worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lm_offload.arch.config import parse_config
from lm_offload.hardware.curve import Curve
from lm_offload.hardware.link import Link
from lm_offload.hardware.processor import Processor
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.planner.policies.model_shape import ModelShape, model_shape
from lm_offload.planner.policies.policy import PhasePolicy, Policy, Share
from lm_offload.planner.policies.scene import Scene, Step, decode_step
from lm_offload.quant.format import Format

FP16 = Format("fp16")
INT4 = Format("int4", 64, symmetric=False)
ON_GPU, SPLIT, ON_CPU = (
    PhasePolicy("gpu", "gpu"),
    PhasePolicy("gpu", "cpu"),
    PhasePolicy("cpu", "cpu"),
)
ON_HOST = Share(cpu=1.0)
LLAMA = {
    "model_type": "llama",
    "hidden_size": 256,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "intermediate_size": 512,
    "num_hidden_layers": 6,
    "vocab_size": 1024,
    "torch_dtype": "float16",
    "tie_word_embeddings": False,
}
MIXTRAL = LLAMA | {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2}


def shape_of(**changes: Any) -> ModelShape:
    """LLAMA with other fields."""
    return model_shape(parse_config(LLAMA | changes))


def constant(rate: float) -> Curve:
    """The same rate at every size."""
    return Curve((1.0,), (rate,))


GPU = Processor(1, 10**10, memory_bytes_per_s=1e11, peak_flops=1e13)
CPU = Processor(8, 10**11, memory_bytes_per_s=1e10, peak_flops=1e11)
MACHINE = HardwareProfile(
    "null machine",
    "round numbers",
    CPU,
    disk_bytes=10**12,
    disk_read=Link(constant(1e9)),
    disk_write=Link(constant(5e8)),
    gpu=GPU,
    h2d=Link(constant(1e10)),
    d2h=Link(constant(5e9)),
)
PAGEABLE = replace(MACHINE, host_copy=Link(constant(4e9)), d2h_pageable=Link(constant(1e9)))
POLICY = Policy(
    weights=ON_HOST,
    kv=ON_HOST,
    activations=Share(gpu=1.0),
    micro_batch_size=4,
    num_micro_batches=3,
    prefill=ON_GPU,
    decode=ON_GPU,
    weight_format=FP16,
    kv_format=FP16,
)


def scene(
    step: Step | None = None,
    model: ModelShape | None = None,
    machine: HardwareProfile = MACHINE,
    **changes: Any,
) -> Scene:
    """POLICY with changes, by default in a decode step after 100 tokens."""
    return Scene(
        model or shape_of(), machine, replace(POLICY, **changes), step or decode_step(100, 0)
    )
