"""Whole layers computed on the CPU where they lie, in small sweeps, and all else on a stand-in."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lm_offload.planner.plan_text import choice_of
from tests.engine.harness import PLENTY, generate, tokens_of
from tests.engine.test_device import PROMPTS, WORKLOAD, open_on_device
from tests.toy import MODEL_TYPES

GPU_BYTES = 8 << 20  # more than enough for every toy


def with_layers(plan, layers, rows=4, kinds=("attention", "mlp"), **sizes):
    """The choice of a plan with all on the device but some layers, which are in place."""
    names = [*plan.device.resident, *plan.resident, *plan.streamed]
    units = tuple(name for name in names if ".".join(name.split(".")[:2]) in layers)
    device = replace(
        choice_of(plan).device,
        resident=tuple(name for name in names if name not in units),
        ring=GPU_BYTES // 4,
        in_place=tuple(name for name in units if name.split(".")[-1] in kinds),
        in_place_rows=rows,
    )
    return replace(choice_of(plan), device=device, resident=units, streamed=(), **sizes)


def planned(folder, attention="device", workload=WORKLOAD):
    with open_on_device(folder, 2 * GPU_BYTES, attention=attention) as llm:
        return llm.plan_for(workload)


def layers_of(plan):
    names = [*plan.device.resident, *plan.resident, *plan.streamed]
    return list(dict.fromkeys(".".join(it.split(".")[:2]) for it in names if "layers." in it))


@pytest.mark.parametrize("attention", ["device", "cpu"])
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_tokens_are_those_of_the_cpu(toy, model_type, attention):
    folder = toy(model_type)
    plan = planned(folder, attention)
    choice = with_layers(plan, layers_of(plan)[::2])
    with open_on_device(folder, 2 * GPU_BYTES, plan=choice) as llm:
        assert tokens_of(llm, PROMPTS) == generate(folder, PLENTY, PROMPTS)
        decode, prefill = llm.stats.decode[-1].time, llm.stats.prefill[0].time
        assert 0 == decode.h2d_bytes < prefill.h2d_bytes
        assert decode.attend_s > 0
        assert prefill.attend_s > 0
        made = llm.plan
    on_host, on_device = dict(made.memory)["KV cache"], dict(made.device.memory).get("KV cache", 0)
    assert on_host > 0
    assert bool(on_device) == (attention == "device")
