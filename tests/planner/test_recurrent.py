"""Plans of models with recurrent layers: what a state costs in memory and in time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lm_offload.arch.config import parse_config
from lm_offload.arch.weights import build_units
from lm_offload.errors import BudgetError
from lm_offload.hardware.curve import Curve
from lm_offload.hardware.processor import Processor
from lm_offload.plan import ThreadPlan, Workload
from lm_offload.planner.choose.kept_states import PLANNED, with_kept_states, with_spare_states
from lm_offload.planner.choose.search import make_plan
from lm_offload.planner.choose.smallest import smallest_memory
from lm_offload.planner.costs.memory import Sizes, memory_table
from lm_offload.planner.costs.sized_model import sizes_of_config
from lm_offload.planner.costs.sweep_shape import Piece, SweepShape
from lm_offload.planner.costs.thread_rates import with_threads
from lm_offload.planner.costs.unit_cost import UnitCosts
from lm_offload.planner.decided.fixed_plan import fixed_plan
from lm_offload.planner.decided.plan_choice import choice_of
from lm_offload.quant.format import format_of_dtype
from lm_offload.units import MIB
from tests.planner.machines import PLAIN, PLAIN_CPU
from tests.planner.requests import make_request
from tests.toy import toy_fields

RAW = {**toy_fields("qwen3_5_text"), "model_type": "qwen3_5_text"}
LARGE = {**RAW, "linear_num_value_heads": 32, "linear_key_head_dim": 128}
WORKLOAD = Workload((40,) * 8, (60,) * 8)


def attended_s(
    raw, shape: SweepShape, micro_batch_tokens: int, cpu: Processor = PLAIN_CPU
) -> dict[str, float]:
    config = parse_config(raw)
    units = build_units(config, MIB)
    model = sizes_of_config(config, units, format_of_dtype(config.dtype))
    costs = UnitCosts(model, cpu, missed_frac=1.0)
    names = [sized.unit.name for sized in model.units]
    return dict(zip(names, costs.attention_s(shape, micro_batch_tokens), strict=True))


def test_a_state_is_read_and_written_for_each_row_of_decode() -> None:
    found = attended_s(LARGE, SweepShape((Piece(5, 1, 30),), 5), 64)
    matrix_bytes = 4 * 32 * 128 * 16
    assert found["layers.0.recurrent"] == pytest.approx(5 * 2 * matrix_bytes / 1e10)
    assert 0 < found["layers.2.attention"] < found["layers.0.recurrent"]
    assert found["layers.0.mlp"] == 0


def test_rows_of_a_prompt_find_it_in_the_cache() -> None:
    shape, values = SweepShape((Piece(1, 512, 512),), 1), 32 * 128 * 16
    whole = attended_s(LARGE, shape, 512)["layers.0.recurrent"]
    assert whole == pytest.approx(512 * 7 * values / PLAIN_CPU.peak_flops)
    assert attended_s(LARGE, shape, 1)["layers.0.recurrent"] > whole


def test_measured_states_take_what_their_rows_took() -> None:
    curve, values = Curve((1.0, 64.0), (1e9, 8e9)), 32 * 128 * 16
    cpu = replace(PLAIN_CPU, state_values_per_s=curve)
    decode = attended_s(LARGE, SweepShape((Piece(5, 1, 30),), 5), 64, cpu)
    assert decode["layers.0.recurrent"] == pytest.approx(5 * values / 1e9)
    prompts = attended_s(LARGE, SweepShape((Piece(2, 130, 130),), 2), 64, cpu)
    wanted = 2 * values * (128 / 8e9 + 2 / curve.at(2))
    assert prompts["layers.0.recurrent"] == pytest.approx(wanted)
    fewer = with_threads(replace(PLAIN, cpu=cpu), ThreadPlan(1, 1, 1)).cpu.state_values_per_s
    assert fewer is not None
    assert fewer.rates[0] < curve.rates[0]


def test_memory_has_a_state_for_each_sequence_in_flight() -> None:
    request = make_request(RAW, WORKLOAD, 64 * MIB)
    (model,), config = request.models, request.config
    sizes = Sizes(64, 8, 8, 8)
    table = dict(memory_table(model, sizes, table_resident=False))
    assert 0 <= table["recurrent states"] - 8 * config.state_bytes < 4096
    spare = dict(memory_table(model, replace(sizes, spare_sequences=4), table_resident=False))
    assert 0 <= spare["recurrent states"] - 12 * config.state_bytes < 4096
    many = replace(sizes, kv_blocks=1024, spare_sequences=4)
    assert "KV swap" not in dict(memory_table(model, many, table_resident=False))


def test_a_little_of_the_budget_and_what_is_left_of_it_keeps_states() -> None:
    small = with_kept_states(make_request(LARGE, WORKLOAD, 5 * MIB))
    assert small.kept_states == 0  # a state takes more than a 64th
    request = with_kept_states(make_request(LARGE, WORKLOAD, 256 * MIB))
    assert request.kept_states == PLANNED
    plan = make_plan(request)
    kept_bytes = request.config.state_bytes
    assert 0 <= dict(plan.memory)["kept states"] - PLANNED * kept_bytes < 4096
    more = with_spare_states(request, plan)
    assert more.kept_states > PLANNED
    assert (
        more.used_bytes
        == plan.used_bytes + dict(more.memory)["kept states"] - (dict(plan.memory)["kept states"])
    )
    assert more.used_bytes <= more.budget_bytes
    assert more.predicted.peak_bytes["cpu"] == more.used_bytes
    again = fixed_plan(request, choice_of(more))
    assert (again.kept_states, again.memory) == (more.kept_states, more.memory)


def test_common_prefixes_want_one_slot_or_count_for_nothing() -> None:
    shared = replace(WORKLOAD, shared_lens=(0, *(32,) * 7))
    request = with_kept_states(make_request(LARGE, shared, 5 * MIB))
    assert (request.kept_states, request.workload) == (1, shared)
    least = sum(size_bytes for _, size_bytes in smallest_memory(request))
    assert make_plan(request).kept_states == 1
    none = with_kept_states(replace(request, budget_bytes=least))
    assert (none.kept_states, none.workload) == (0, WORKLOAD)
    assert make_plan(none).used_bytes <= least


def test_no_plan_has_drafts_and_states_limit_what_is_in_flight() -> None:
    plenty = make_plan(replace(make_request(LARGE, WORKLOAD, 64 * MIB), speculation="auto"))
    assert (plenty.draft_rows, plenty.max_sequences) == (0, 8)
    few = make_plan(make_request(LARGE, WORKLOAD, 5 * MIB))
    assert few.max_sequences < 8
    assert few.used_bytes <= 5 * MIB
    with pytest.raises(BudgetError, match="recurrent states"):
        make_plan(make_request(LARGE, WORKLOAD, MIB))
