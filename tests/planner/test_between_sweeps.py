"""What lies between two sweeps, and what hiding it could gain at most."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lm_offload.plan import Plan, Workload
from lm_offload.planner.choose.search import make_plan
from lm_offload.planner.reasons.between_sweeps import between_sweeps
from lm_offload.units import GIB
from tests.planner.machines import with_cpu
from tests.planner.requests import TINY, make_request

VOCAB = 50_000
MACHINE = with_cpu(threads=4, sweep_s=1e-3, sampled_values_per_s=1e8)


def planned(outputs: int = 8) -> Plan:
    model = {**TINY, "vocab_size": VOCAB}
    workload = Workload((16,) * 8, (outputs,) * 8)
    return make_plan(make_request(model, workload, GIB, MACHINE))


def test_it_is_the_engines_own_time_and_what_sampling_takes_of_it():
    plan = replace(planned(), threads=replace(planned().threads, sampling=1))
    found = between_sweeps(plan, MACHINE.cpu, VOCAB)
    rows = plan.max_sequences
    assert found.sampling_s == pytest.approx(rows * VOCAB / 1e8)
    assert found.seconds == pytest.approx(found.sampling_s + 1e-3)


def test_tokens_can_only_be_drawn_beside_another_micro_batch():
    plan = replace(planned(), micro_batch_tokens=1)
    total_s = plan.predicted.step_s["decode"].total_s
    several = between_sweeps(plan, MACHINE.cpu, VOCAB)
    single = between_sweeps(replace(plan, micro_batch_tokens=8), MACHINE.cpu, VOCAB)
    assert several.gain_frac == pytest.approx(0.75 * several.seconds / total_s)
    lost_s = (several.gain_frac - single.gain_frac) * total_s
    assert lost_s == pytest.approx(0.75 * several.sampling_s)


def test_one_core_gains_nothing():
    assert between_sweeps(planned(), replace(MACHINE.cpu, threads=1), VOCAB).gain_frac == 0


def test_a_run_without_decode_has_nothing_between_its_sweeps():
    assert between_sweeps(planned(outputs=1), MACHINE.cpu, VOCAB) is None
