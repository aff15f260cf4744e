from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_offload.engine.cpu_memory import ARENAS
from lm_offload.errors import BudgetError
from lm_offload.kvcache.cache import blocks_for
from lm_offload.plan import Plan, Workload
from lm_offload.planner.choose.search import candidates, make_plan
from lm_offload.units import GIB, HUGE_PAGE_BYTES, MIB, PAGE_BYTES, parse_size
from tests.arch.real_configs import LLAMA_3_1_8B, OPT_350M
from tests.planner.requests import PROFILE, TINY, make_request, plan

WORKLOADS = st.lists(
    st.tuples(st.integers(1, 200), st.integers(1, 56)), min_size=1, max_size=9
).map(lambda pairs: Workload(*(tuple(column) for column in zip(*pairs, strict=True))))
TIED = {**TINY, "tie_word_embeddings": True}
MODELS = st.sampled_from([TINY, TIED])


def smallest_budget(raw, workload) -> int:
    """The bytes that the error for a hopeless budget names."""
    with pytest.raises(BudgetError) as caught:
        plan(raw, workload, 1)
    found = re.search(r"the smallest that works .*? is (.+? KiB)", str(caught.value))
    assert found
    return parse_size(found[1])


@settings(max_examples=25)
@given(MODELS, WORKLOADS, st.floats(1, 20))
def test_a_plan_never_exceeds_its_budget_and_can_do_the_work(raw, workload, factor):
    budget = int(smallest_budget(raw, workload) * factor)
    found = plan(raw, workload, budget)
    assert found.used_bytes == sum(size for _, size in found.memory) <= budget
    assert all(size >= 0 for _, size in found.memory)
    assert found.kv_blocks >= max(map(blocks_for, workload.total_lens))
    assert 1 <= found.max_sequences <= len(workload.prompt_lens)
    assert found.sweep_tokens >= found.max_sequences
    assert 1 <= found.micro_batch_tokens <= found.sweep_tokens


@settings(max_examples=20)
@given(MODELS, WORKLOADS)
def test_the_budget_that_the_error_names_works_and_less_does_not(raw, workload):
    smallest = smallest_budget(raw, workload)
    assert plan(raw, workload, smallest).used_bytes <= smallest
    with pytest.raises(BudgetError):
        plan(raw, workload, smallest - PAGE_BYTES)


@pytest.mark.parametrize("vocab_size", [131, 8192, 32768])
@pytest.mark.parametrize("length", [1, 30, 60, 240])
@pytest.mark.parametrize("factor", [1.0, 1.03])
def test_the_budget_that_the_error_names_works_where_a_cache_may_lie_on_disk(
    vocab_size, length, factor
):
    raw = {**TINY, "vocab_size": vocab_size, "num_hidden_layers": 6}

    def with_disk(budget: int) -> Plan:
        request = make_request(raw, Workload((length,), (4,)), budget)
        return make_plan(replace(request, spill_bytes=GIB))

    with pytest.raises(BudgetError) as caught:
        with_disk(1)
    found = re.search(r"the smallest that works .*? is (.+? KiB)", str(caught.value))
    budget = int(parse_size(found[1]) * factor)
    assert with_disk(budget).used_bytes <= budget


def test_the_error_shows_the_table_of_bytes_and_the_way_out():
    with pytest.raises(BudgetError) as caught:
        plan(LLAMA_3_1_8B, Workload((100,), (10,)), 50 << 20)
    text = str(caught.value)
    assert "A CPU memory budget of 50.00 MiB was given" in text
    assert "raise --cpu-memory or shorten the prompts or outputs" in text
    for purpose in ("staging ring", "KV cache", "hidden states", "workspace", "logits"):
        assert purpose in text


@pytest.mark.parametrize("raw", [LLAMA_3_1_8B, OPT_350M])
def test_the_error_of_a_large_model_names_a_budget_that_works(raw):
    workload = Workload((100,), (10,))
    smallest = smallest_budget(raw, workload)
    assert plan(raw, workload, smallest).used_bytes <= smallest
    with pytest.raises(BudgetError):
        plan(raw, workload, smallest - PAGE_BYTES)


@pytest.mark.parametrize("raw", [TINY, TIED])
def test_everything_is_resident_when_it_fits(raw):
    found = plan(raw, Workload((10, 20), (5, 5)), 1 << 26)
    assert found.streamed == ()
    assert (found.streamed_bytes, found.ring_bytes) == (0, 0)
    assert found.table_resident is ("tie_word_embeddings" not in raw)


def test_more_budget_streams_less_for_one_prompt():
    streamed = [
        plan(LLAMA_3_1_8B, Workload((100,), (50,)), gib * GIB).streamed_bytes
        for gib in range(2, 18)
    ]
    assert streamed == sorted(streamed, reverse=True)
    assert streamed[0] > 0 == streamed[-1]


def test_streamed_and_resident_units_are_all_units_in_order():
    found = plan(LLAMA_3_1_8B, Workload((100,), (50,)), 8 * GIB)
    assert set(found.resident).isdisjoint(found.streamed)
    layers = [int(name.split(".")[1]) for name in found.streamed if name.startswith("layers")]
    assert layers == sorted(layers)
    assert layers[0] < 4
    assert layers[-1] > 27


@pytest.mark.parametrize(("raw", "budget", "readers"), [(TINY, 0, 2), (LLAMA_3_1_8B, 8 * GIB, 4)])
def test_units_that_are_no_larger_than_a_block_have_few_readers(raw, budget, readers):
    workload = Workload((10,), (10,))
    budget = budget or smallest_budget(raw, workload)
    profile = replace(PROFILE, disk_read=replace(PROFILE.disk_read, few_readers=2))
    found = make_plan(make_request(raw, workload, budget, profile))
    assert found.streamed
    assert found.read_concurrency == readers
    assert plan(raw, workload, budget).read_concurrency == 4  # where no few are known


def test_what_of_a_ring_lies_behind_the_last_huge_page_is_slow():
    raw = {**TINY, "hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 8}
    shares = set()
    for budget in (4 * MIB, 6 * MIB, 9 * MIB):
        for one in candidates(make_request(raw, Workload((10,), (10,)), budget)):
            ring_bytes = dict(one.memory)["staging ring"]
            mapped_bytes = sum(size for name, size in one.memory if name in ARENAS)
            behind_bytes = ring_bytes - mapped_bytes // HUGE_PAGE_BYTES * HUGE_PAGE_BYTES
            assert one.in_small_pages * ring_bytes == pytest.approx(max(behind_bytes, 0))
            shares.add(one.in_small_pages)
    assert min(shares) == 0.0 < max(shares) < 1.0


def test_the_budget_is_used():
    for gib in (2, 4, 8, 12):
        found = plan(LLAMA_3_1_8B, Workload((100,), (50,)), gib * GIB)
        assert found.used_bytes > (gib - 0.4) * GIB


def test_many_prompts_share_a_sweep():
    workload = Workload((50,) * 64, (50,) * 64)
    assert plan(LLAMA_3_1_8B, workload, 8 * GIB).max_sequences == 64


@pytest.mark.parametrize("count", [1, 7, 1500])
def test_planning_for_thousands_of_prompts_works(count):
    found = plan(TINY, Workload((10,) * count, (5,) * count), 1 << 20)
    assert found.used_bytes <= 1 << 20
