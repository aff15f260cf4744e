"""The search against brute force, and what must hold for whatever it finds."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_offload.arch.shipped import find_config
from lm_offload.errors import BudgetError
from lm_offload.hardware.machine_file import load_machine
from lm_offload.planner.policies.choices import Choices
from lm_offload.planner.policies.constraints import Constraints, choices_for
from lm_offload.planner.policies.effects import RESOURCES, programs_of
from lm_offload.planner.policies.job import PHASES, Job
from lm_offload.planner.policies.memory import TIERS
from lm_offload.planner.policies.model_shape import model_shape
from lm_offload.planner.policies.policy import Share
from lm_offload.planner.policies.rank import SAME
from lm_offload.planner.policies.search import NEARLY, search
from lm_offload.planner.policies.shares import COORDINATES, placed, rounded, with_shares
from lm_offload.planner.policies.task_costs import resource_seconds, task_seconds
from lm_offload.units import GIB
from tests.planner.scenes import (
    CPU,
    FP16,
    GPU,
    INT4,
    MACHINE,
    ON_CPU,
    ON_GPU,
    POLICY,
    SPLIT,
    shape_of,
)

MODEL = shape_of()
SMALL = Choices(
    weight_formats=(FP16, INT4),
    kv_formats=(FP16,),
    prefill=(ON_GPU,),
    decode=(ON_GPU, SPLIT),
    micro_batch_sizes=(1, 4),
    micro_batch_counts=(1, 3),
    schedules=("zigzag",),
    prefetch_units=(1,),
)


def machine_of(gpu_bytes, cpu_bytes=CPU.memory_bytes, h2d=MACHINE.h2d):
    return replace(
        MACHINE,
        gpu=replace(GPU, memory_bytes=gpu_bytes),
        cpu=replace(CPU, memory_bytes=cpu_bytes),
        h2d=h2d,
    )


def job_of(gpu_bytes=3 * 2**20, cpu_bytes=2**23, **more):
    return Job(MODEL, machine_of(gpu_bytes, cpu_bytes, **more), 64, 8)


def sequence_s(job, policy):
    return job.time(policy).total_s / policy.block_size


@pytest.mark.parametrize("gpu_bytes", [3 * 2**20, 6 * 2**20, 2**24])
def test_with_fixed_shares_it_is_the_best_of_all(gpu_bytes):
    job = job_of(gpu_bytes)
    fixed = replace(
        SMALL, weights=Share(cpu=0.8, disk=0.2), kv=Share(cpu=1.0), activations=Share(cpu=1.0)
    )
    _, best = search(job, fixed)
    fitting = [policy for policy in fixed.policies() if not job.missing_bytes(policy)]
    assert len(fitting) > 4
    brute_s = min(sequence_s(job, policy) for policy in fitting)
    assert best.sequence_s <= brute_s * SAME * NEARLY
    assert best.policy in fitting


@pytest.mark.parametrize(("gpu_bytes", "cpu_bytes"), [(3 * 2**20, 2**23), (2**22, 2**22)])
def test_no_placement_on_a_grid_is_better(gpu_bytes, cpu_bytes):
    job = job_of(gpu_bytes, cpu_bytes)
    _, best = search(job, SMALL)
    pairs = [(g / 2, d / 2) for g in range(3) for d in range(3 - g)]
    shares = [
        placed(POLICY, (*w, *kv, 0.0, 0.0), ("weights", "kv"))
        for w, kv in itertools.product(pairs, pairs)
    ]
    brute_s = min(
        sequence_s(job, moved)
        for policy, share in itertools.product(SMALL.policies(), shares)
        if not job.missing_bytes(moved := replace(policy, weights=share.weights, kv=share.kv))
    )
    assert best.sequence_s <= brute_s * SAME * NEARLY


@settings(deadline=None, max_examples=5)
@given(st.integers(3 * 2**20, 2**24), st.integers(2**23, 2**25), st.sampled_from(["gpu", "cpu"]))
def test_more_memory_is_never_slower(gpu_bytes, cpu_bytes, tier):
    more = {"gpu": (gpu_bytes + 2**20, cpu_bytes), "cpu": (gpu_bytes, cpu_bytes + 2**20)}
    _, small = search(job_of(gpu_bytes, cpu_bytes), SMALL)
    _, large = search(job_of(*more[tier]), SMALL)
    assert large.sequence_s <= small.sequence_s * SAME * NEARLY


@settings(deadline=None, max_examples=5)
@given(st.integers(3 * 2**20, 2**24), st.integers(2**23, 2**25), st.booleans())
def test_what_is_chosen_fits_and_is_allowed(gpu_bytes, cpu_bytes, exact):
    job = job_of(gpu_bytes, cpu_bytes)
    allowed = choices_for(job, Constraints(exact=exact, pins={"attention": "cpu"}))
    _, best = search(job, replace(allowed, micro_batch_sizes=(1, 8), micro_batch_counts=(1, 4)))
    assert not job.missing_bytes(best.policy)
    assert best.policy.decode.attention == "cpu"
    if exact:
        assert best.policy.weight_format == best.policy.kv_format == FP16


def test_a_faster_link_is_never_slower():
    _, slow = search(job_of(), SMALL)
    _, fast = search(job_of(h2d=MACHINE.d2h), SMALL)  # of half the rate
    assert slow.sequence_s <= fast.sequence_s * SAME


def test_without_a_gpu_everything_is_on_the_cpu():
    job = Job(MODEL, replace(MACHINE, gpu=None, h2d=None, d2h=None), 64, 8)
    _, best = search(job, choices_for(job, Constraints()))
    assert best.policy.prefill == best.policy.decode == ON_CPU
    assert {best.policy.weights.gpu, best.policy.kv.gpu, best.policy.activations.gpu} == {0.0}


def test_where_nothing_fits_it_says_what_is_missing():
    job = Job(MODEL, replace(machine_of(2**20, 2**20), disk_bytes=2**20), 64, 8)
    with pytest.raises(
        BudgetError, match=r"block of 1 with weights in int4:64 .* lacks .* KiB of GPU memory"
    ):
        search(job, SMALL)


def test_a_schedule_with_fewer_buffers_is_found_where_others_do_not_fit():
    disk = replace(SMALL, weights=Share(disk=1.0), schedules=("zigzag", "pipo-memory"))
    sizes = range(2**17, 2**21, 2**17)
    found = [_schedule_or_none(job_of(size), disk) for size in sizes]
    assert found[0] is None
    assert "pipo-memory" in found
    assert found[-1] is not None


def _schedule_or_none(job, choices):
    try:
        return search(job, choices)[1].policy.schedule
    except BudgetError:
        return None


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 10**6))
def test_programs_say_what_the_model_says(seed):
    """Where transfers have no fixed cost, everything is affine and formats add up."""
    rng, job = np.random.default_rng(seed), job_of()
    policies = list(choices_for(job, Constraints()).policies())
    index = int(rng.integers(len(policies)))
    shares = [part for _ in range(3) for part in rng.dirichlet([1, 1, 1])[:2]]
    programs = programs_of(job, [policies[0], policies[index]])
    values = programs.constants[1] + np.array(shares) @ programs.slopes[1]
    policy = placed(policies[index], shares, ("weights", "kv", "activations"))
    scenes = [job.scene(policy, phase) for phase in PHASES]
    busy = [resource_seconds(scene, task_seconds(scene)) for scene in scenes]
    peak = job.peak_bytes(policy)
    expected = [
        *(busy[0].get(name, 0.0) for name in RESOURCES),
        *(job.sweeps("decode") * busy[1].get(name, 0.0) for name in RESOURCES),
        *(peak.prefill[tier] / GIB for tier in TIERS),
        *(peak.decode[tier] / GIB for tier in TIERS),
    ]
    assert values == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_few_of_many_programs_are_solved():
    """80 layers on three tiers: the time is that of a few dozen linear programs."""
    config, machine = find_config("llama-2-70b"), load_machine("a100-40gb")
    job = Job(model_shape(config), machine, 512, 32)
    searched, best = search(job, choices_for(job, Constraints()))
    assert searched.space.programs.count > 4000
    assert searched.space.solved < 120
    assert not job.missing_bytes(best.policy)


def test_shares_are_rounded_towards_slower_tiers():
    policy = with_shares(POLICY, {"weights": Share(0.33336, 0.33337, 0.33327), "kv": Share(1.0)})
    assert rounded(policy).weights == Share(0.3333, 0.3333, 0.3334)
    assert rounded(policy).kv == Share(gpu=1.0)
    exact = placed(POLICY, [1.0 + 1e-9, -1e-9, 0.5, 0.5, 0.0, 0.25], ("weights", "kv"))
    assert exact.weights == Share(gpu=1.0)
    assert exact.kv == Share(0.5, 0.0, 0.5)
    assert exact.activations == POLICY.activations
    assert len(COORDINATES) == 6
