"""Streamed weights in the memory of KV blocks that are not in use: read less, change no token."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_offload import LLM, SamplingParams, Workload
from lm_offload.demo import demo_path
from lm_offload.kvcache.cache import blocks_for, kv_block_bytes
from lm_offload.kvcache.growing_cache import GrowingCache
from lm_offload.pipeline.executor import OverlappedExecutor
from lm_offload.planner.decided.plan_choice import PlanChoice, choice_of
from lm_offload.units import PAGE_BYTES, align_up
from tests.engine.harness import PLENTY, open_llm, prompts_of, smallest_budget, tokens_of


def streaming(folder, workload: Workload, **changes: Any) -> PlanChoice:
    """A plan that reads every layer in every sweep, through a ring of about two units.

    It lends unused KV memory if a unit fits there at all.
    """
    with open_llm(folder, **{name: changes.pop(name, None) for name in ("kv_format",)}) as llm:
        choice = choice_of(llm.plan_for(workload))
        sizes = {layout.name: layout.size_bytes for layout in llm.files.layouts}
        block_bytes = kv_block_bytes(llm.files.config, llm.files.kv_format)
    streamed = tuple(name for name in choice.resident if name.startswith("layers."))
    resident = tuple(name for name in choice.resident if name not in streamed)
    ring = 2 * max(sizes[name] for name in streamed)
    parts = {"resident": resident, "streamed": streamed, "ring": ring, "draft_rows": 0}
    cache_bytes = align_up(changes.get("kv_blocks", choice.kv_blocks) * block_bytes)
    parts["retention"] = max(sizes[name] for name in streamed) <= cache_bytes
    return replace(choice, **{**parts, **changes})


def greedy(max_tokens: int) -> SamplingParams:
    return SamplingParams(max_tokens=max_tokens, ignore_eos=True)


def retained(llm: LLM) -> list[int]:
    return [sweep.retained_units for sweep in llm.stats.sweeps]


@pytest.fixture
def interruptions(monkeypatch) -> list[int]:
    """How often reads were thrown away since the cache grew faster than expected."""
    calls, real = [], OverlappedExecutor.read_again

    def read_again(self) -> None:
        calls.append(1)
        real(self)

    monkeypatch.setattr(OverlappedExecutor, "read_again", read_again)
    return calls


class Reads:
    """What the disk read from the start of an engine, beside what its sweeps say."""

    def __init__(self, llm: LLM) -> None:
        self._llm = llm
        self._sweeps: list[Any] = []

    def check(self, thrown_away: int = 0) -> None:
        """After each run: read and retained bytes are those of all sweeps and of what is ahead."""
        self._sweeps += self._llm.stats.sweeps
        machinery, count = self._llm._engine.machinery, len(self._sweeps)
        read_bytes = machinery.executor._disk.reads.moved_bytes["read"]
        read_bytes += sum(sweep.retained_bytes for sweep in self._sweeps)
        streamed_bytes = machinery.plan.streamed_bytes
        least_bytes = count * (streamed_bytes - PAGE_BYTES)  # the file ends inside a page
        assert least_bytes <= read_bytes <= (count + 1 + thrown_away) * streamed_bytes


def test_units_come_while_the_context_is_short_and_go_as_it_grows(toy, caplog):
    folder, prompts = toy("llama", num_hidden_layers=6), prompts_of(9, 5)
    wanted_of, params = open_llm(folder), greedy(200)
    plan = streaming(folder, Workload((9, 5), (200, 200)))
    with wanted_of as roomy, open_llm(folder, PLENTY, plan=plan, prefix_sharing=False) as llm:
        with caplog.at_level(logging.DEBUG, "lm_offload.pipeline.retention"):
            assert tokens_of(llm, prompts, params) == tokens_of(roomy, prompts, params)
        counts = retained(llm)
        assert max(counts) == llm.stats.retained_units >= 4
        assert counts[0] == counts[-1] == 0
        highest = counts.index(max(counts))
        assert counts[highest:] == sorted(counts[highest:], reverse=True)
        Reads(llm).check()
    said = " ".join(record.message for record in caplog.records)
    changes = re.findall(r"(\d+) of (\d+) units, after (\d+)", said)
    counts = [tuple(map(int, found)) for found in changes]
    assert all(before[0] == after[2] for before, after in pairwise(counts))
    assert {of for _, of, _ in counts} == {12}


def test_the_plan_predicts_what_is_retained(toy):
    folder, prompts = toy("llama", num_hidden_layers=6), prompts_of(9, 5)
    plan = streaming(folder, Workload((9, 5), (200, 200)))
    with open_llm(folder, PLENTY, plan=plan, prefix_sharing=False) as llm:
        predicted = llm.plan_for(Workload((9, 5), (200, 200))).retention
        tokens_of(llm, prompts, greedy(200))
        counts = retained(llm)
        assert predicted.units == pytest.approx(sum(counts) / len(counts), abs=0.5)
        mean_bytes = llm.stats.retained_bytes / len(counts)
        assert predicted.size_bytes == pytest.approx(mean_bytes, rel=0.1)


def test_a_plan_may_leave_it_out(toy):
    folder = toy("llama")
    plan = streaming(folder, Workload((9,), (200,)))
    with open_llm(folder, PLENTY, plan=replace(plan, retention=False)) as llm:
        tokens_of(llm, prompts_of(9), greedy(200))
        assert llm.stats.retained_bytes == 0


def test_units_come_back_as_sequences_end(toy):
    folder, prompts = toy("llama", num_hidden_layers=6), prompts_of(*[40] * 6)
    params = [greedy(count) for count in (20, 10, 30, 200, 15, 60)]
    plan = streaming(folder, Workload((40,) * 6, (200,) * 6), kv_blocks=40)
    with (
        open_llm(folder) as roomy,
        open_llm(folder, PLENTY, plan=plan, prefix_sharing=False) as llm,
    ):
        assert tokens_of(llm, prompts, params) == tokens_of(roomy, prompts, params)
        counts = retained(llm)
        assert min(counts[5:]) < max(counts[100:])
        Reads(llm).check()


@settings(max_examples=12)
@given(
    model_type=st.sampled_from(["llama", "gemma3_text", "opt"]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    kv_format=st.sampled_from([None, "int8", "int4"]),
    sharing=st.booleans(),
    shared=st.sampled_from([0, 40]),
    lanes=st.integers(1, 6),
    rows=st.integers(1, 60),
    requests=st.lists(st.tuples(st.integers(1, 60), st.integers(1, 90)), min_size=1, max_size=8),
)
def test_tokens_are_those_without_it(
    toy, interruptions, model_type, dtype, kv_format, sharing, shared, lanes, rows, requests
):
    folder = toy(model_type, dtype=dtype)
    prompts = [[5] * shared + prompt for prompt in prompts_of(*(length for length, _ in requests))]
    params = [SamplingParams(max_tokens=most, stop_token_ids=(3, 4, 5)) for _, most in requests]
    with open_llm(folder, PLENTY, kv_format=kv_format) as llm:
        wanted = tokens_of(llm, prompts, params)
    workload = Workload(tuple(map(len, prompts)), tuple(most for _, most in requests))
    longest = max(map(blocks_for, workload.total_lens))
    plan = streaming(
        folder,
        workload,
        kv_format=kv_format,
        kv_blocks=longest * lanes,
        max_sequences=lanes,
        sweep_tokens=lanes + rows,
        micro_batch_tokens=min(16, lanes + rows),
    )
    interruptions.clear()
    with open_llm(folder, PLENTY, plan=plan, prefix_sharing=sharing, kv_format=kv_format) as llm:
        reads = Reads(llm)
        for _ in range(2):  # with what the first run leaves behind
            assert tokens_of(llm, prompts, params) == wanted
            reads.check(len(interruptions))


@settings(max_examples=5)
@given(factor=st.floats(1, 3), lengths=st.lists(st.integers(1, 40), min_size=1, max_size=5))
def test_any_budget(toy, factor, lengths):
    folder, prompts, params = toy("qwen3"), prompts_of(*lengths), greedy(70)
    with open_llm(folder) as llm:
        wanted = tokens_of(llm, prompts, params)
    budget = int(smallest_budget(folder, prompts, 70) * factor)
    with open_llm(folder, budget, speculation="off") as llm:
        assert tokens_of(llm, prompts, params) == wanted


def test_a_long_prompt_takes_back_at_once_what_a_short_one_left(toy, interruptions):
    folder, (short, long) = toy("llama"), prompts_of(4, 220)
    plan = streaming(folder, Workload((220,), (20,)))
    with open_llm(folder) as llm:
        wanted = [tokens_of(llm, [prompt], greedy(20))[0] for prompt in (short, long, short)]
    with open_llm(folder, PLENTY, plan=plan, prefix_sharing=False) as llm:
        found, counts, reads = [], [], Reads(llm)
        for prompt in (short, long, short):
            found += tokens_of(llm, [prompt], greedy(20))
            counts.append(retained(llm))
            reads.check(len(interruptions))
    assert found == wanted
    assert counts[0][-1] == counts[2][-1] == 2
    assert counts[1][0] == 0
    assert len(interruptions) == 1


def test_blocks_from_the_prefix_cache_on_disk_take_it_back_too(toy, tmp_path, interruptions):
    folder, (short, long) = toy("llama"), prompts_of(4, 220)
    plan = streaming(folder, Workload((220,), (20,)))
    with open_llm(folder, prefix_cache=tmp_path) as llm:
        wanted = tokens_of(llm, [long], greedy(20))
    with open_llm(folder, PLENTY, plan=plan, prefix_cache=tmp_path) as llm:
        tokens_of(llm, [short], greedy(20))
        assert tokens_of(llm, [long], greedy(20)) == wanted
        assert llm.stats.cached_tokens > 200
    assert interruptions


@pytest.mark.parametrize("weight_format", [None, "int4:32"])
def test_packed_weights_and_drafts(weight_format):
    prompts = [list(range(5, 5 + length)) * 2 for length in (3, 20)]
    options = {"weight_format": weight_format, "speculation": "prompt-lookup"}
    with LLM(demo_path(), threads=1, **options) as llm:
        wanted = tokens_of(llm, prompts, greedy(150))
        workload = Workload((6, 40), (150, 150))
        choice = choice_of(llm.plan_for(workload))
        sizes = {layout.name: layout.size_bytes for layout in llm.files.layouts}
    streamed = tuple(name for name in choice.resident if name.startswith("layers."))
    plan = replace(
        choice,
        resident=tuple(name for name in choice.resident if name not in streamed),
        streamed=streamed,
        ring=2 * max(sizes.values()),
        kv_blocks=100,
        retention=True,
    )
    with LLM(demo_path(), threads=1, plan=plan, **options) as llm:
        assert tokens_of(llm, prompts, greedy(150)) == wanted
        assert llm.stats.retained_units > 0
        Reads(llm).check()


def test_where_no_unit_finds_room_nothing_is_lent(toy):
    folder, workload = toy("llama"), Workload((9,), (8,))
    plan = streaming(folder, workload)
    with open_llm(folder, PLENTY, plan=plan) as llm:
        llm.load(workload)
        assert not isinstance(llm._engine.machinery.cache, GrowingCache)
    with open_llm(
        folder, PLENTY, plan=replace(plan, kv_blocks=40, retention=True), overlap=False
    ) as llm:
        tokens_of(llm, prompts_of(9))
        assert llm.stats.retained_bytes == 0
