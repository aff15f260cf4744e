"""Sequences that are swapped to disk and back: the same tokens as with room for all."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_offload import RunStats
from lm_offload.engine import assembly
from lm_offload.kvcache import swap_file
from lm_offload.plan import Workload
from lm_offload.planner.costs import memory
from lm_offload.planner.decided.plan_choice import PlanChoice
from lm_offload.storage.spill_file import SECTOR_BYTES
from tests.engine.harness import PLENTY, open_llm, prompts_of
from tests.engine.test_kv_losses import failing
from tests.engine.test_preemption import (
    PROMPTS,
    SHORT,
    all_blocks_are_back,
    params_of,
    run_tight,
    seen,
    tight,
    wanted_of,
)

LANES = {"max_sequences": 2, "spare_sequences": 6}


class AtOnce(Executor):
    """Does what it is given before it goes on."""

    def __init__(self, threads: int, name: str) -> None:
        pass

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def on_disk(plan: PlanChoice, layers: tuple[int, ...], longest: int) -> PlanChoice:
    """The same with keys and values of these layers on disk."""
    sizes = {"kv_group_blocks": longest, "kv_ring_blocks": 2 * longest} if layers else {}
    return replace(plan, kv_on_disk=layers, **sizes)


@pytest.fixture(autouse=True)
def _small_caches_swap_too(monkeypatch) -> None:
    monkeypatch.setattr(memory, "LEAST_SWAP_BLOCKS", 1)


@pytest.fixture
def swaps(monkeypatch) -> None:
    """The disk is always chosen."""
    monkeypatch.setattr(assembly, "swap_choice", lambda request, plan: lambda preemption: True)


@pytest.fixture
def at_once(monkeypatch) -> None:
    """The disk takes no time. While it takes some others go on, and who is preempted then depends
    on the time: perhaps one without a full block, which has nothing to swap."""
    monkeypatch.setattr(swap_file, "ThreadPoolExecutor", AtOnce)


@settings(max_examples=8)
@given(
    model_type=st.sampled_from(["llama", "mistral", "gemma3_text"]),
    kv_format=st.sampled_from([None, "int8", "int4"]),
    lengths=st.lists(st.integers(1, 60), min_size=3, max_size=6),
    shared=st.sampled_from([0, 40]),
    spare_blocks=st.integers(0, 5),
    rows=st.integers(1, 40),
    sharing=st.booleans(),
    temperature=st.sampled_from([0.0, 1.5]),
    prompt_logprobs=st.sampled_from([None, 2]),
    layers=st.sampled_from([(), (1,), (0, 2), (0, 1, 2)]),
)
def test_tokens_and_log_probabilities_are_those_of_a_roomy_cache(
    swaps,
    toy,
    model_type,
    kv_format,
    lengths,
    shared,
    spare_blocks,
    rows,
    sharing,
    temperature,
    prompt_logprobs,
    layers,
):
    folder, max_tokens = toy(model_type), 50
    prompts = [[5] * shared + prompt for prompt in prompts_of(*lengths)]
    params = params_of(prompts, max_tokens, temperature, prompt_logprobs)
    options = {"kv_format": kv_format, "prefix_sharing": sharing}
    with open_llm(folder, PLENTY, **options) as llm:
        wanted = seen(llm.generate(prompts, params))
    plan = tight(
        folder,
        prompts,
        max_tokens,
        spare_blocks,
        sweep_tokens=8 + rows,
        micro_batch_tokens=min(16, 8 + rows),
        scored_rows=3 if prompt_logprobs is not None else 0,
        kv_format=kv_format,
        **LANES,
    )
    plan = on_disk(plan, layers, plan.kv_blocks - spare_blocks)
    with open_llm(folder, PLENTY, plan=plan, **options) as llm:
        assert seen(llm.generate(prompts, params)) == wanted
        settle(llm)
        assert all_blocks_are_back(llm)


def settle(llm) -> None:
    while llm._engine.machinery.scheduler._swaps.wait():
        pass


@pytest.mark.parametrize("sharing", [True, False])
@pytest.mark.parametrize("layers", [(1,), (0, 1, 2)])
def test_what_is_on_disk_stays_there(swaps, at_once, toy, layers, sharing):
    folder, wanted = toy("llama"), wanted_of(toy("llama"), SHORT)
    plan = tight(folder, PROMPTS, SHORT.max_tokens, 2, **LANES)
    plan = on_disk(plan, layers, plan.kv_blocks - 2)
    with open_llm(folder, PLENTY, plan=plan, prefix_sharing=sharing) as llm:
        for _ in range(2):
            assert seen(llm.generate(PROMPTS, SHORT)) == wanted
            assert llm.stats.swapped == llm.stats.preemptions > 0
            assert llm.stats.redone_tokens <= 15 * llm.stats.preemptions
            settle(llm)
            assert all_blocks_are_back(llm)


@pytest.mark.parametrize("layers", [(1,), (0, 1, 2)])
def test_a_disk_without_room_for_slots_costs_only_time(swaps, toy, monkeypatch, caplog, layers):
    folder, wanted = toy("llama"), wanted_of(toy("llama"), SHORT)
    plan = tight(folder, PROMPTS, SHORT.max_tokens, 2, **LANES)
    plan = on_disk(plan, layers, plan.kv_blocks - 2)
    with open_llm(folder, PLENTY, plan=plan, prefix_sharing=False) as llm:
        llm.load(Workload(tuple(map(len, PROMPTS)), (SHORT.max_tokens,) * len(PROMPTS)))

        def full(fd: int, at: int, size: int) -> None:
            raise OSError(errno.ENOSPC, "full")

        monkeypatch.setattr(os, "posix_fallocate", full)
        assert seen(llm.generate(PROMPTS, SHORT)) == wanted
        assert llm.stats.preemptions > 0 == llm.stats.swapped
        settle(llm)
        assert all_blocks_are_back(llm)
        said = [record.message for record in caplog.records if "--spill-dir" in record.message]
        assert len(said) == 1
        monkeypatch.undo()
        assert seen(llm.generate(PROMPTS, SHORT)) == wanted


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_swaps_are_counted_and_little_is_computed_again(swaps, at_once, toy, temperature):
    folder, params = toy("llama"), replace(SHORT, temperature=temperature)
    wanted, runs = wanted_of(folder, params), []
    for plan in (LANES, {"max_sequences": 8}):
        found, llm = run_tight(folder, PROMPTS, params, plan=plan, prefix_sharing=False)
        assert found == wanted
        runs.append(llm.stats)
    swapped, computed = runs
    assert swapped.swapped == swapped.preemptions > 0 == computed.swapped
    assert swapped.redone_tokens <= 15 * swapped.preemptions
    assert computed.redone_tokens > 15 * computed.preemptions > 0


@pytest.mark.parametrize(
    ("name", "code", "sharing"),
    [("pwrite", errno.ENOSPC, True), ("pwrite", errno.EIO, False), ("preadv", errno.EIO, False)],
)
def test_a_disk_that_fails_costs_only_time(swaps, toy, monkeypatch, caplog, name, code, sharing):
    folder, wanted = toy("llama"), wanted_of(toy("llama"), SHORT)
    plan = tight(folder, PROMPTS, SHORT.max_tokens, 2, **LANES)
    with open_llm(folder, PLENTY, plan=plan, prefix_sharing=sharing) as llm:
        llm.load(Workload(tuple(map(len, PROMPTS)), (SHORT.max_tokens,) * len(PROMPTS)))
        failed = failing(monkeypatch, name, code, lambda at, size: size > SECTOR_BYTES)
        assert seen(llm.generate(PROMPTS, SHORT)) == wanted
        assert len(failed) > 0
        assert llm.stats.swapped < llm.stats.preemptions
        settle(llm)
        assert all_blocks_are_back(llm)
        said = [record.message for record in caplog.records if "--spill-dir" in record.message]
        assert len(said) == 1
        monkeypatch.undo()
        assert seen(llm.generate(PROMPTS, SHORT)) == wanted


def test_small_caches_have_no_memory_for_it(toy, monkeypatch):
    monkeypatch.undo()
    found, llm = run_tight(toy("llama"), PROMPTS, SHORT, plan=LANES, prefix_sharing=False)
    assert found == wanted_of(toy("llama"), SHORT)
    assert llm.stats.preemptions > 0 == llm.stats.swapped


def test_an_unfinished_run_leaves_no_block_behind(swaps, toy):
    plan = tight(toy("llama"), PROMPTS, SHORT.max_tokens, 2, **LANES)
    with open_llm(toy("llama"), PLENTY, plan=plan, prefix_sharing=False) as llm:
        outputs = llm.generate_each(PROMPTS, SHORT)
        while not llm.stats.swapped:
            next(outputs)
            llm.stats = RunStats(tuple(llm._engine.records))
        outputs.close()
        assert all_blocks_are_back(llm)
        assert seen(llm.generate(PROMPTS, SHORT)) == wanted_of(toy("llama"), SHORT)


def test_the_choice_is_that_of_the_performance_model(toy):
    """In memory computing binds; where everything is streamed, rows cost nothing."""
    folder = toy("llama")
    swapped = []
    for streams in (False, True):
        plan = tight(folder, PROMPTS, SHORT.max_tokens, 2, **LANES)
        if streams:
            names = (*plan.resident, *plan.streamed)
            plan = replace(plan, resident=(), streamed=names, ring=1 << 20, table_resident=False)
        with open_llm(folder, PLENTY, plan=plan, prefix_sharing=False) as llm:
            assert seen(llm.generate(PROMPTS, SHORT)) == wanted_of(folder, SHORT)
            assert llm.stats.preemptions > 0
            swapped.append(llm.stats.swapped)
    assert swapped[0] > 0 == swapped[1]
