"""What a plan predicts: reckoned by hand for a plain machine, and never slower with more."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_offload.plan import Objective, Workload
from lm_offload.planner.choose.predictor import MOST_GROUPS
from lm_offload.planner.choose.rank import TIE
from lm_offload.planner.choose.search import make_plan, ranked_plans
from lm_offload.planner.reasons.what_if import faster_compute, faster_disk, faster_memory
from lm_offload.units import GIB, MIB
from tests.arch.real_configs import LLAMA_3_1_8B
from tests.planner.machines import PLAIN, with_cpu
from tests.planner.requests import TINY, make_request

SIZES = {"layers": 40_000, "head": 34_000}  # bytes of a unit of TINY, more or less
SHORT = Workload((20,), (11,))
MODELS = st.sampled_from([TINY, {**TINY, "tie_word_embeddings": True}])
WORKLOADS = st.tuples(st.integers(1, 100), st.integers(2, 40), st.integers(1, 5)).map(
    lambda sizes: Workload((sizes[0],) * sizes[2], (sizes[1],) * sizes[2])
)
TOLERANCE = TIE**2  # equals within a step of the ranking are not told apart


def run_s(request) -> float:
    return make_plan(request).predicted.run_s


def test_a_resident_decode_is_bound_by_the_bytes_of_weights_and_cache():
    found = make_plan(make_request(LLAMA_3_1_8B, SHORT, 20 * GIB, PLAIN)).predicted
    weight_bytes = 2 * (8_030_261_248 - 128256 * 4096)
    kv_bytes = 26 * 2 * 32 * 1024 * 2  # at the middle of the growth
    elementwise_bytes = 32 * (4 * 4096 * 2 * 2 + 3 * 14336 * 4 + 2 * 5120 * 4 + 2 * 1024 * 6)
    expected = (weight_bytes + kv_bytes + elementwise_bytes) / 1e10
    assert found.tpot_s == pytest.approx(expected, rel=1e-3)
    assert found.decode_tokens_per_s == pytest.approx(1 / expected, rel=1e-3)
    assert found.step_s["decode"].read_bytes == found.step_s["decode"].disk_read_s == 0


def test_a_streamed_decode_is_bound_by_what_is_read():
    plan = make_plan(make_request(LLAMA_3_1_8B, SHORT, 6 * GIB, PLAIN))
    found = plan.predicted
    assert found.peak_bytes == {"cpu": plan.used_bytes, "disk": plan.streamed_bytes}
    assert found.tpot_s == pytest.approx(plan.streamed_bytes / 1e9, rel=0.02)
    assert found.step_s["decode"].wait_s == pytest.approx(
        found.tpot_s - found.step_s["decode"].cpu_s, rel=0.01
    )


def test_a_run_is_its_prefill_and_its_decode():
    found = make_plan(make_request(TINY, Workload((30,) * 4, (9,) * 4), 1 << 26, PLAIN)).predicted
    prefill_s = 120 / found.prefill_tokens_per_s
    assert found.ttft_s == pytest.approx(prefill_s)
    assert found.run_s == pytest.approx(prefill_s + 32 / found.decode_tokens_per_s)
    assert found.tpot_s == pytest.approx(4 / found.decode_tokens_per_s)


def test_one_token_has_no_decode():
    found = make_plan(make_request(TINY, Workload((30,), (1,)), 1 << 26, PLAIN)).predicted
    assert found.tpot_s is None
    assert found.decode_tokens_per_s == 0
    assert found.run_s == found.ttft_s


def test_the_engine_itself_counts():
    free = make_plan(make_request(TINY, SHORT, 1 << 26, PLAIN)).predicted
    cpu = with_cpu(sweep_s=1.0, sequence_s=0.5, sampled_values_per_s=131.0)
    paid = make_plan(make_request(TINY, SHORT, 1 << 26, cpu)).predicted
    assert paid.tpot_s == pytest.approx(free.tpot_s + 2.5)
    assert paid.step_s["decode"].overhead_s == pytest.approx(2.5)


@settings(max_examples=25)
@given(MODELS, WORKLOADS, st.integers(200, 900), st.floats(1.0, 3.0))
def test_more_memory_is_never_slower(raw, workload, kib, factor):
    small, large = (
        run_s(make_request(raw, workload, int(size * 1024), PLAIN))
        for size in (kib + 400, (kib + 400) * factor)
    )
    assert large <= small * 1.1  # to within a unit, which is a fifteenth of this model


@settings(max_examples=25)
@given(
    MODELS,
    WORKLOADS,
    st.integers(600, 1500),
    st.sampled_from([faster_disk, faster_memory, faster_compute]),
    st.floats(1.0, 4.0),
)
def test_a_faster_machine_is_never_slower(raw, workload, kib, faster, factor):
    request = make_request(raw, workload, kib * 1024, PLAIN)
    better = replace(request, profile=faster(PLAIN, factor))
    assert run_s(better) <= run_s(request) * TOLERANCE


def test_latency_and_throughput_are_different_aims():
    """One after the other the mean request is done sooner; together the last one is."""
    workload = Workload((64,) * 16, (32,) * 16)
    cpu = with_cpu(peak_flops=1e9)  # nothing is gained by computing rows together
    ranked = {
        aim: ranked_plans(make_request(TINY, replace(workload, objective=aim), 1 << 26, cpu))
        for aim in get_args(Objective)
    }
    assert ranked["latency"][0].plan.max_sequences < 16
    assert ranked["latency"][0].score_s < ranked["throughput"][0].plan.predicted.run_s


def test_int4_is_chosen_where_it_is_allowed_and_reads_less():
    formats = ("int8:64", "int4:64")
    budget = 4 * GIB
    alone = make_plan(make_request(LLAMA_3_1_8B, SHORT, budget, PLAIN))
    free = make_plan(make_request(LLAMA_3_1_8B, SHORT, budget, PLAIN, formats=formats))
    assert (alone.weight_format, free.weight_format) == ("bf16", "int4:64")
    assert free.predicted.run_s < 0.4 * alone.predicted.run_s


def test_an_exact_format_wins_a_tie():
    cpu = with_cpu(memory_bytes_per_s=1e30, peak_flops=1e6)  # bytes cost nothing
    raw = {**TINY, "intermediate_size": 128}
    found = make_plan(make_request(raw, SHORT, 1 << 26, cpu, formats=("int8:32",)))
    assert found.weight_format == "fp32"


def test_a_long_and_varied_run_is_predicted_by_its_mean_wave():
    lengths = tuple(range(10, 10 + 2 * MOST_GROUPS))
    workload = Workload(lengths, lengths)
    found = make_plan(make_request(TINY, workload, 4 * MIB, PLAIN)).predicted
    mean = Workload((265,) * len(lengths), (265,) * len(lengths))
    alike = make_plan(make_request(TINY, mean, 4 * MIB, PLAIN)).predicted
    assert found.run_s == pytest.approx(alike.run_s, rel=0.25)
