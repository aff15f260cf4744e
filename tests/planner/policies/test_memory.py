"""Peak bytes of each tier against numbers worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_offload.planner.policies.memory import TIERS, capacities, peak_bytes
from lm_offload.planner.policies.policy import Share
from tests.planner.scenes import INT4, MACHINE, ON_CPU, SPLIT, scene, shape_of

MODEL = shape_of()
ATTENTION_BYTES = 2 * (256 * 768 + 256)
MLP_BYTES = 2 * (3 * 256 * 512 + 256)
HEAD_BYTES = 2 * 256 * 1024
EMBED_BYTES = 2 * 256 * 1024
WEIGHT_BYTES = 6 * (ATTENTION_BYTES + MLP_BYTES) + HEAD_BYTES + EMBED_BYTES
KV_TOKEN_BYTES = 2 * 128 * 2  # of one layer
GEN, PROMPT = 20, 80


def peaks(**changes):
    return peak_bytes(MODEL, MACHINE, scene(**changes).policy, PROMPT, GEN)


def test_homes_lie_where_the_shares_say():
    peak = peaks(weights=Share(cpu=0.75, disk=0.25), kv=Share(disk=1.0), activations=Share(gpu=1.0))
    kv_bytes = 6 * 12 * 100 * KV_TOKEN_BYTES
    assert peak.decode["disk"] == pytest.approx(0.25 * WEIGHT_BYTES + kv_bytes)
    window = 0.25 * (MLP_BYTES + HEAD_BYTES) + 2 * 4 * 100 * KV_TOKEN_BYTES
    assert peak.decode["cpu"] == pytest.approx(0.75 * WEIGHT_BYTES + window)


def test_the_device_holds_buffers_and_workspace_of_what_passes_through_it():
    peak = peaks(schedule="flexgen").decode["gpu"]
    weights = MLP_BYTES + HEAD_BYTES  # the largest two units behind one another
    kv = 2 * 4 * 100 * KV_TOKEN_BYTES
    hidden = 12 * 256 * 2
    work = 4 * (256 + 2 * 512) * 2 + 4 * 1024 * 4
    assert peak == pytest.approx(weights + kv + hidden + work)
    everything = peaks(weights=Share(gpu=1.0), kv=Share(gpu=1.0)).decode["gpu"]
    homes = WEIGHT_BYTES + 6 * 12 * 100 * KV_TOKEN_BYTES
    assert everything == pytest.approx(homes + hidden + work)


def test_schedules_hold_as_many_units_as_they_run_ahead():
    sizes = {
        kind: peaks(schedule=kind, prefetch_units=3).decode["gpu"]
        for kind in ("pipo-memory", "pipo", "cgopipe", "zigzag")
    }
    assert sorted(sizes, key=lambda kind: sizes[kind]) == list(sizes)


def test_attention_on_the_cpu_needs_no_kv_on_the_gpu():
    difference = peaks().decode["gpu"] - peaks(decode=SPLIT, schedule="pipo").decode["gpu"]
    assert difference == pytest.approx((2 * 100 - 1) * 4 * KV_TOKEN_BYTES)


def test_memory_that_is_not_pinned_needs_pinned_buffers_beside_it():
    added = peaks(pinned=False, kv_pinned=False).decode["cpu"] - peaks().decode["cpu"]
    assert added == pytest.approx(MLP_BYTES + HEAD_BYTES + 2 * 4 * 100 * KV_TOKEN_BYTES)


def test_a_copy_is_held_of_what_is_dequantized():
    fused = peaks(weight_format=INT4).decode["gpu"]
    unfused = peaks(weight_format=INT4, dequantize="unit").decode["gpu"]
    assert unfused - fused == pytest.approx(MLP_BYTES)


def test_where_the_cpu_computes_the_gpu_holds_homes_only():
    peak = peaks(prefill=ON_CPU, decode=ON_CPU, activations=Share(cpu=1.0))
    assert peak.of("gpu") == 0
    assert peak.decode["cpu"] > WEIGHT_BYTES


def test_what_is_missing_is_named_by_tier():
    peak = peaks()
    assert peak.missing(capacities(MACHINE)) == {}
    sizes = {tier: peak.of(tier) for tier in TIERS}
    assert peak.missing(sizes) == {}
    sizes["gpu"] -= 5
    assert peak.missing(sizes) == {"gpu": pytest.approx(5)}


@given(st.integers(1, 64), st.integers(1, 16), st.sampled_from(["flexgen", "zigzag", "cgopipe"]))
def test_more_sequences_never_need_less(size, count, schedule):
    few = peaks(micro_batch_size=size, num_micro_batches=count, schedule=schedule)
    more = peaks(micro_batch_size=size + 1, num_micro_batches=count + 1, schedule=schedule)
    assert all(more.of(tier) >= few.of(tier) for tier in TIERS)
