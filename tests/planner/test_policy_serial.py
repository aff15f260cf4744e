"""The sums of what cannot overlap: affine, and never above the estimate of the schedule."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_offload.planner.policy import Share
from lm_offload.planner.policy_estimate import estimated_step_s
from lm_offload.planner.policy_serial import serial_seconds
from lm_offload.planner.scene import decode_step, prefill_step
from lm_offload.planner.task_costs import resource_seconds, task_seconds
from tests.planner.scenes import ON_GPU, PAGEABLE, SPLIT, scene

SCHEDULES = ("flexgen", "pipo", "pipo-memory", "zigzag", "cgopipe")


def sums_of(it):
    return serial_seconds(it, task_seconds(it))


@given(
    st.sampled_from(SCHEDULES),
    st.integers(1, 6),
    st.sampled_from([ON_GPU, SPLIT]),
    st.floats(0, 1),
    st.booleans(),
    st.sampled_from([prefill_step(60), decode_step(60, 20)]),
)
def test_no_estimate_is_below_them(schedule, count, decode, on_disk, pinned, step):
    it = scene(
        step,
        machine=PAGEABLE,
        schedule=schedule,
        num_micro_batches=count,
        decode=decode,
        weights=Share(cpu=1 - on_disk, disk=on_disk),
        kv_pinned=pinned,
    )
    seconds = task_seconds(it)
    estimate_s = estimated_step_s(it, seconds, resource_seconds(it, seconds))
    assert max(serial_seconds(it, seconds)) <= estimate_s * (1 + 1e-9)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_they_are_affine_in_the_number_of_micro_batches(schedule):
    base = scene(schedule=schedule, decode=SPLIT, machine=PAGEABLE, kv_pinned=False)
    counts = (1, 2, 5)
    one, two, five = (
        sums_of(replace(base, policy=replace(base.policy, num_micro_batches=count)))
        for count in counts
    )
    for first, second, fifth in zip(one, two, five, strict=True):
        assert fifth == pytest.approx(first + 4 * (second - first))
    assert max(five) > 0
