"""What is said about a policy: what binds it, what comes next, what more hardware brings."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lm_offload.planner.policies.blocks import neighbours
from lm_offload.planner.policies.choices import Choices
from lm_offload.planner.policies.explain import gains, runners_up
from lm_offload.planner.policies.job import Job
from lm_offload.planner.policies.policy import Share
from lm_offload.planner.policies.reasons import bottleneck, ceiling_tokens_per_s
from lm_offload.planner.policies.search import search
from tests.planner.scenes import CPU, FP16, GPU, INT4, MACHINE, ON_GPU, POLICY, SPLIT, shape_of

JOB = Job(shape_of(), MACHINE, 64, 8)
SMALL_JOB = replace(JOB, machine=replace(MACHINE, gpu=replace(GPU, memory_bytes=4 * 2**20)))
SMALL = Choices(
    weight_formats=(FP16, INT4),
    kv_formats=(FP16,),
    prefill=(ON_GPU,),
    decode=(ON_GPU, SPLIT),
    micro_batch_sizes=(4,),
    micro_batch_counts=(1, 3),
    schedules=("zigzag", "pipo-memory"),
)


def bound_by(**changes):
    policy = replace(POLICY, **changes)
    return bottleneck(JOB, policy, JOB.time(policy), "decode")


def test_the_work_of_the_busiest_resource_is_named():
    on_disk = bound_by(weights=Share(disk=1.0))
    assert (on_disk.resource, on_disk.work) == ("disk_read", "weights")
    assert str(on_disk) == "decode is bound by disk reads (weights)"
    few_heads = bound_by(weights=Share(gpu=1.0), kv=Share(disk=1.0))
    assert (few_heads.resource, few_heads.work) == ("disk_read", "KV cache")


def test_dequantization_is_named_where_it_takes_most():
    packed = {"weights": Share(gpu=1.0), "kv": Share(gpu=1.0), "weight_format": INT4}
    assert bound_by(**packed, dequantize="fused").work == "products"
    unpacked = bound_by(**packed, dequantize="micro_batch")
    assert (unpacked.resource, unpacked.work) == ("gpu", "dequantization")


def test_waiting_is_named_where_no_resource_is_busy():
    some = Share(gpu=0.6, cpu=0.4)
    found = bound_by(schedule="pipo-memory", num_micro_batches=1, decode=SPLIT, weights=some)
    assert found.busy_frac < 0.75
    assert "is bound by tasks that wait for one another; the link to the GPU (weights)" in str(
        found
    )


def test_the_ceiling_is_never_below_the_simulation():
    for schedule in ("flexgen", "zigzag", "pipo-memory"):
        time = JOB.time(replace(POLICY, schedule=schedule))
        assert ceiling_tokens_per_s(time) >= time.generation_tokens_per_s * (1 - 1e-9)
    busy_s = max(time.prefill.busy_s.values()) + 7 * max(time.decode.busy_s.values())
    assert ceiling_tokens_per_s(time) == pytest.approx(12 * 8 / busy_s)


def test_runners_up_differ_in_one_choice_each():
    searched, best = search(SMALL_JOB, SMALL)
    found = runners_up(searched, best)
    ratios = [runner_up.slower for runner_up in found]
    assert ratios == sorted(ratios)
    assert len({runner_up.change for runner_up in found}) == len(found) == 3
    for runner_up in found:
        other, chosen = runner_up.ranked.policy, best.policy
        differs = [
            getattr(other, name) != getattr(chosen, name)
            for name in ("weight_format", "kv_format", "decode", "prefill", "schedule")
        ]
        assert sum(differs) == 1
        assert runner_up.slower == pytest.approx(runner_up.ranked.sequence_s / best.sequence_s)


def test_more_of_what_binds_brings_most():
    slow_disk = replace(
        SMALL_JOB.machine, cpu=replace(CPU, memory_bytes=2**21), disk_read=MACHINE.disk_write
    )
    searched, _ = search(
        replace(SMALL_JOB, machine=slow_disk), replace(SMALL, weight_formats=(FP16,))
    )
    speedups = {gain.change: gain.speedup for gain in gains(searched)}
    gpu, cpu, disk = (
        speedups[name] for name in ("+1 GiB gpu memory", "+1 GiB cpu memory", "2x disk reads")
    )
    assert gpu > cpu > disk > 1.5  # a GiB is far more than this model needs
    assert speedups["2x the CPU"] == pytest.approx(1.0, abs=0.02)
    assert all(speedup > 0.998 for speedup in speedups.values())


def test_neighbours_keep_size_or_number_or_the_block():
    sizes, counts = (1, 4, 16), (1, 2, 4, 8)
    assert set(neighbours((4, 4), sizes, counts)) == {
        (1, 4), (1, 8), (16, 4), (16, 1), (4, 2), (4, 8),
    }  # fmt: skip
    assert set(neighbours((1, 1), sizes, counts)) == {(4, 1), (1, 2)}
