"""Saved plans: what is written is read again, and what cannot hold is refused with the reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_offload.errors import BudgetError, ConfigError
from lm_offload.plan import Plan, Workload
from lm_offload.planner.choose.search import make_plan
from lm_offload.planner.decided.fixed_plan import fixed_plan
from lm_offload.planner.decided.plan_choice import choice_of
from lm_offload.planner.decided.plan_text import plan_text, read_plan
from lm_offload.planner.request import Request
from tests.planner.machines import PLAIN
from tests.planner.requests import TINY, make_request

WORKLOAD = Workload((20, 30), (10, 5))
BUDGET = 460 * 1024


def request_of(budget_bytes: int = BUDGET) -> Request:
    return make_request(TINY, WORKLOAD, budget_bytes, PLAIN, formats=())


@pytest.fixture
def plan() -> Plan:
    found = make_plan(request_of())
    assert found.streamed
    assert found.resident
    return found


@pytest.fixture
def edited(plan: Plan, tmp_path: Path) -> Any:
    """The plan after an edit of its file."""

    def edit(**changes: object) -> Plan:
        file = tmp_path / "plan.yaml"
        record = {**yaml.safe_load(plan_text(plan, "tiny")), **changes}
        record = {key: value for key, value in record.items() if value is not ...}
        file.write_text(yaml.safe_dump(record))
        return fixed_plan(request_of(), read_plan(file))

    return edit


@settings(max_examples=15)
@given(st.integers(430, 700))
def test_a_plan_that_is_written_is_read_again(tmp_path, kib):
    found = make_plan(request_of(kib * 1024))
    file = tmp_path / "plan.yaml"
    file.write_text(plan_text(found, "tiny"))
    assert read_plan(file) == choice_of(found)
    again = fixed_plan(request_of(kib * 1024), read_plan(file))
    assert replace(again, predicted=found.predicted) == found
    assert again.predicted.run_s == pytest.approx(found.predicted.run_s)


def test_rows_of_a_resident_tied_table_need_no_buffers_in_a_plan_that_is_read_again() -> None:
    request = make_request({**TINY, "tie_word_embeddings": True}, WORKLOAD, 1 << 30, PLAIN)
    found = make_plan(request)
    assert not found.streamed
    assert fixed_plan(request, choice_of(found)).memory == found.memory


def test_it_says_what_it_is(plan: Plan) -> None:
    text = plan_text(plan, "tiny")
    assert text.startswith("# A plan of lm-offload for tiny")
    assert "KiB read in each sweep" in text


def test_a_unit_can_be_moved_by_hand(plan: Plan, edited: Any) -> None:
    moved = plan.resident[-1]
    found = edited(
        resident=[name for name in plan.resident if name != moved], streamed=[*plan.streamed, moved]
    )
    assert moved in found.streamed
    assert found.streamed_bytes > plan.streamed_bytes
    assert found.used_bytes < plan.used_bytes


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"resident": ["embed", "layers.7.mlp"]}, ["does not have", "layers.7.mlp"]),
        ({"streamed": []}, ["leaves units out"]),
        ({"resident": ["embed", "embed"]}, ["more than once", "embed"]),
        ({"resident": "embed"}, ["resident in plan.yaml", "a list of units"]),
        ({"kv_blocks": 0}, ["kv_blocks in plan.yaml is 0", "above zero"]),
        ({"kv_blocks": 1}, ["1 KV blocks", "needs 3"]),
        ({"kv_blocks": True}, ["kv_blocks in plan.yaml is True"]),
        ({"ring": "4KiB"}, ["ring is 4.00 KiB", "the largest streamed unit"]),
        ({"ring": "much"}, ["ring in plan.yaml is 'much'", "a size"]),
        ({"ring": ...}, ["ring in plan.yaml is missing"]),
        ({"sweep_tokens": 1, "max_sequences": 2}, ["sweep_tokens is 1", "max_sequences, 2"]),
        ({"micro_batch_tokens": 4096}, ["micro_batch_tokens is 4096", "at most sweep_tokens"]),
        ({"read_block": 1000}, ["read_block is 1000", "a multiple of 4096"]),
        ({"read_concurrency": 1000}, ["read_concurrency is 1000", "at most 64"]),
        ({"weight_format": "int3"}, ["weight_format in plan.yaml", "'int3'"]),
        ({"weight_format": "int4:64"}, ["weights in int4:64", "allowed here is fp32"]),
        ({"kv_format": "int8:64"}, ["KV cache in int8:64", "fp32"]),
        ({"budgte": "1GiB"}, ["budgte in plan.yaml is not a known key", "budget"]),
        ({"scored_rows": -1}, ["scored_rows in plan.yaml is -1", "not below zero"]),
        ({"table_resident": "perhaps"}, ["table_resident in plan.yaml", "true or false"]),
        ({"budget": 0}, ["budget in plan.yaml is 0", "above zero"]),
        ({"max_sequences": 0}, ["max_sequences in plan.yaml is 0", "above zero"]),
        ({"sweep_tokens": 1.5}, ["sweep_tokens in plan.yaml is 1.5", "a whole number"]),
        ({"scored_rows": 9999}, ["scored_rows is 9999", "at most sweep_tokens"]),
        ({"draft_rows": 9999}, ["draft_rows is 9999", "at most sweep_tokens less max_sequences"]),
        ({"spare_sequences": 9999}, ["spare_sequences is 9999", "at most sweep_tokens less"]),
        ({"threads": {"compute": 2}}, ["threads in plan.yaml", "attention, sampling"]),
        ({"threads": {"compute": 0, "attention": 1, "sampling": 1}}, ["is 0", "above zero"]),
        ({"threads": {"compute": 9, "attention": 1, "sampling": 1}}, ["has 9 threads", "1 to 2"]),
        ({"kv_on_disk": [7], "kv_group_blocks": 9, "kv_ring_blocks": 9}, ["kv_on_disk is [7]"]),
        ({"kv_on_disk": [0]}, ["kv_group_blocks is 0", "the longest request"]),
        ({"kv_group_blocks": 3}, ["kv_group_blocks is 3", "0 for both"]),
        ({"kv_on_disk": [0], "kv_group_blocks": 3, "kv_ring_blocks": 1}, ["kv_ring_blocks is 1"]),
        ({"retention": "often"}, ["retention in plan.yaml is 'often'", "true or false"]),
        ({"stages": [{}]}, ["stages in plan.yaml", "two stages or more"]),
        ({"device": 3}, ["device in plan.yaml is 3", "a mapping with the keys name"]),
    ],
)
def test_what_cannot_hold_is_refused_in_one_sentence(
    edited: Any, changes: dict[str, object], words: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        edited(**changes)
    text = str(caught.value)
    assert all(word in text for word in words), text
    assert "\n" not in text


def test_more_than_the_budget_is_refused_with_the_table_of_bytes(plan: Plan, edited: Any) -> None:
    with pytest.raises(BudgetError, match="the budget is") as caught:
        edited(resident=[*plan.resident, *plan.streamed], streamed=[])
    assert "resident weights" in str(caught.value)


def test_a_plan_for_more_memory_than_is_given_is_refused(plan: Plan) -> None:
    with pytest.raises(BudgetError, match=r"The plan takes .* the budget is 400\.00 KiB"):
        fixed_plan(request_of(400 * 1024), choice_of(plan))


@pytest.mark.parametrize("content", ["[1, 2]", "", "ring: ["])
def test_a_file_that_is_no_plan(tmp_path: Path, content: str) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=r"plan\.yaml"):
        read_plan(file)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"plan\.yaml does not exist; check the path"):
        read_plan(tmp_path / "plan.yaml")
