"""Simulated and estimated steps: agreement, bounds, and what more hardware does."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_offload.planner.policies.policy import Share
from lm_offload.planner.policies.scene import decode_step, prefill_step
from lm_offload.planner.policies.schedule import policy_block, timeline
from lm_offload.planner.policies.task_costs import resource_seconds, task_seconds
from lm_offload.planner.policies.time import (
    PhaseTime,
    PolicyTime,
    estimate,
    estimate_step,
    predict,
    simulate_step,
    step_timeline,
)
from lm_offload.schedule.task import TaskId
from tests.planner.scenes import (
    INT4,
    MACHINE,
    ON_CPU,
    ON_GPU,
    PAGEABLE,
    POLICY,
    SPLIT,
    constant,
    scene,
    shape_of,
)

SCHEDULES = ("flexgen", "pipo", "pipo-memory", "zigzag", "cgopipe")
SHARES = st.sampled_from([Share(gpu=1.0), Share(cpu=1.0), Share(disk=1.0), Share(0.25, 0.5, 0.25)])
SCENES = st.builds(
    scene,
    step=st.sampled_from([prefill_step(64), decode_step(64, 16), decode_step(2000, 100)]),
    machine=st.sampled_from([MACHINE, PAGEABLE]),
    model=st.sampled_from([shape_of(), shape_of(num_hidden_layers=17)]),
    weights=SHARES,
    kv=SHARES,
    activations=SHARES,
    micro_batch_size=st.sampled_from([1, 4, 50]),
    num_micro_batches=st.integers(1, 4),
    prefill=st.sampled_from([ON_GPU, ON_CPU]),
    decode=st.sampled_from([ON_GPU, SPLIT, ON_CPU]),
    schedule=st.sampled_from(SCHEDULES),
    weight_format=st.sampled_from([POLICY.weight_format, INT4]),
    dequantize=st.sampled_from(["fused", "unit", "micro_batch"]),
    prefetch_units=st.integers(1, 3),
    pinned=st.booleans(),
    kv_pinned=st.booleans(),
)


@given(SCENES)
@settings(max_examples=60)
def test_the_estimate_is_a_lower_bound_but_for_what_a_start_leaves(setting):
    assert estimate_step(setting).step_s <= simulate_step(setting).step_s * 1.03


@given(SCENES)
@settings(max_examples=60)
def test_no_step_is_shorter_than_its_busiest_resource(setting):
    time = simulate_step(setting)
    assert time.step_s >= max(time.busy_s.values())


@given(SCENES)
@settings(max_examples=30)
def test_a_few_layers_and_their_period_stand_for_all(setting):
    """Decode: exactly; prefill: the layers that were not simulated are like the last ones."""
    layers, seconds = setting.model.num_layers, task_seconds(setting)
    if setting.step.phase == "prefill":
        whole_s = timeline(setting, seconds, policy_block(setting, layers, 1)).makespan_s
    else:
        block = policy_block(setting, layers, 3)
        ends_s = timeline(setting, seconds, block).ends_s
        last = (len(block.units) - 1, block.num_micro_batches - 1)
        whole_s = ends_s[TaskId(1, "compute", *last)] - ends_s[TaskId(0, "compute", *last)]
    assert simulate_step(setting).step_s == pytest.approx(whole_s, rel=0.03)


@given(SCENES)
@settings(max_examples=30)
def test_what_a_resource_works_is_the_sum_of_its_scheduled_tasks(setting):
    expected = resource_seconds(setting, task_seconds(setting))
    placed = step_timeline(setting).busy_s
    for resource in placed.keys() | expected.keys():
        assert placed.get(resource, 0.0) == pytest.approx(expected.get(resource, 0.0))


@given(SCENES, st.sampled_from(["h2d", "d2h", "disk_read", "disk_write"]))
@settings(max_examples=30)
def test_a_faster_link_never_predicts_slower(setting, name):
    link = getattr(setting.machine, name)
    faster = replace(link, bytes_per_s=constant(2 * link.bytes_per_s.rates[0]))
    after = replace(setting, machine=replace(setting.machine, **{name: faster}))
    assert simulate_step(after).step_s <= simulate_step(setting).step_s * (1 + 1e-9)


def test_when_everything_is_resident_a_step_is_its_computation():
    gpu = Share(gpu=1.0)
    for schedule in SCHEDULES:
        setting = scene(weights=gpu, kv=gpu, activations=gpu, schedule=schedule)
        time = simulate_step(setting)
        assert time.busy_s.keys() == {"gpu"}
        assert time.step_s == pytest.approx(time.busy_s["gpu"])
        assert time.bottleneck == "gpu"
        assert time.busy_frac("gpu") == pytest.approx(1.0)
        assert time.busy_frac("h2d") == 0


def test_schedules_without_a_barrier_are_faster_where_loads_are_long():
    split = {
        schedule: simulate_step(scene(decode=SPLIT, schedule=schedule, num_micro_batches=8)).step_s
        for schedule in SCHEDULES
    }
    assert split["cgopipe"] <= min(split.values()) * (1 + 1e-9)
    assert split["flexgen"] >= split["pipo"]
    assert split["pipo-memory"] >= split["pipo"]


def test_throughput_is_defined_as_in_the_papers():
    prefill, decode = PhaseTime(10.0, {"gpu": 8.0}), PhaseTime(2.0, {"h2d": 2.0})
    time = PolicyTime(prefill, decode, block_size=6, prompt_len=50, gen_len=11)
    assert time.total_s == 30
    assert time.generation_tokens_per_s == 6 * 11 / 30
    assert time.prefill_tokens_per_s == 30
    assert time.decode_tokens_per_s == 3


def test_both_ways_predict_whole_policies():
    model = shape_of()
    simulated = predict(model, MACHINE, POLICY, 64, 16)
    estimated = estimate(model, MACHINE, POLICY, 64, 16)
    assert 0 < estimated.total_s <= simulated.total_s
    assert simulated.block_size == 12
