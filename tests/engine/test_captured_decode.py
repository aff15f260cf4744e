"""Decode on a device that replays what it launched: the same tokens, by plan and by prediction."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lm_offload import SamplingParams
from lm_offload.device.stand_in import StandIn, StandInGraph
from tests.engine.device_harness import PROFILE, PROMPTS, WORKLOAD, cpu_tokens, open_on_device
from tests.engine.harness import prompts_of, tokens_of

LAUNCHED = replace(PROFILE.gpu, kernel_s=1e-3)  # launches show ...
REPLAYED = replace(LAUNCHED, replay_s=1e-5)  # ... and can be replayed


def opened(folder, gpu=REPLAYED, gpu_memory="1GiB", **options):
    llm = open_on_device(folder, gpu_memory, **options)
    llm.profile = replace(PROFILE, gpu=gpu)
    return llm


@pytest.fixture
def counted(monkeypatch):
    """How often a graph was replayed."""
    counts = []
    replay = StandInGraph.replay

    def count(graph):
        counts.append(graph)
        replay(graph)

    monkeypatch.setattr(StandInGraph, "replay", count)
    return counts


@pytest.mark.parametrize("model_type", ["llama", "gemma3_text", "opt"])
def test_tokens_are_those_of_the_cpu(toy, counted, model_type, caplog):
    folder = toy(model_type)
    with opened(folder) as llm:
        assert tokens_of(llm, PROMPTS) == cpu_tokens(folder, PROMPTS)
        assert llm.plan.device.replays
    assert counted
    assert not caplog.records


@pytest.mark.parametrize("option", [{"weight_format": "int4:32"}, {"kv_format": "int8"}])
def test_formats(toy, counted, option):
    folder = toy("llama", intermediate_size=96)
    with opened(folder, **option) as llm:
        assert tokens_of(llm, PROMPTS) == cpu_tokens(folder, PROMPTS, **option)
    assert counted


def test_batches_that_change_and_contexts_that_grow(toy, counted):
    """Sequences end one by one, and tables outgrow their memory."""
    folder, prompts = toy("llama"), prompts_of(3, 90, 20)
    params = [SamplingParams(max_tokens=count, ignore_eos=True) for count in (4, 40, 150)]
    with opened(folder) as llm:
        found = tokens_of(llm, prompts, params)
    with opened(folder, gpu=LAUNCHED) as llm:
        assert not llm.plan_for(WORKLOAD).device.replays
        assert found == tokens_of(llm, prompts, params)
    assert counted


def test_a_tensor_that_is_not_at_rest_would_show(toy, monkeypatch):
    """Index tensors of their own for every sweep: what a graph holds is then out of date."""
    wanted = cpu_tokens(toy("llama"), PROMPTS)
    monkeypatch.setattr("lm_offload.pipeline.repeats.at_rest", lambda rows, kind, steady: rows)
    with opened(toy("llama")) as llm:
        assert tokens_of(llm, PROMPTS) != wanted


def test_the_plan_says_so_and_counts_the_memory(toy):
    with opened(toy("llama")) as llm:
        replaying = llm.plan_for(WORKLOAD)
    with opened(toy("llama"), gpu=LAUNCHED) as llm:
        launching = llm.plan_for(WORKLOAD)
    assert replaying.device.replays
    assert not launching.device.replays
    more_bytes = replaying.device.used_bytes - launching.device.used_bytes
    assert dict(replaying.device.memory)["recordings"] == more_bytes > 0
    steps = (plan.predicted.step_s["decode"].total_s for plan in (replaying, launching))
    assert next(steps) < next(steps) / 10


@pytest.mark.parametrize(
    ("gpu", "gpu_memory"),
    [
        (replace(REPLAYED, replay_s=1.0), "1GiB"),  # a replay takes longer
        (REPLAYED, "8MiB"),  # there is no room for recordings
    ],
)
def test_where_it_does_not_pay_nothing_is_recorded(toy, gpu, gpu_memory):
    with opened(toy("llama"), gpu, gpu_memory) as llm:
        assert not llm.plan_for(WORKLOAD).device.replays


def test_units_that_are_uploaded_are_not_recorded(toy):
    with opened(toy("llama"), gpu_memory="140MiB") as llm:
        plan = llm.plan_for(WORKLOAD)
        assert plan.device.replays == (plan.device.uploaded_bytes == 0)


def test_a_stand_in_takes_down_calls():
    device, done = StandIn("standin", 1 << 20, 1e9), []
    graphs = []
    device.compute.launch(lambda: graphs.append(device.capture(lambda: done.append(1))))
    device.compute.record().synchronize()
    assert done == []
    device.compute.launch(graphs[0].replay)
    device.compute.record().synchronize()
    assert done == [1]
    device.close()
