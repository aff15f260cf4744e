"""A device without memory, or lost in mid-run, as the stand-in plays it: what is kept."""

from __future__ import annotations

import itertools
import weakref

import pytest

from lm_offload import LLM, SamplingParams
from lm_offload.device.no_memory import no_memory
from lm_offload.device.stand_in import StandIn
from lm_offload.device.worker_stream import WorkerStream
from lm_offload.errors import ConfigError, DeviceError, DeviceMemoryError
from lm_offload.plan import Workload
from lm_offload.planner.decided.plan_choice import choice_of
from lm_offload.units import KIB, MIB
from tests.engine.device_harness import (
    PROMPTS,
    open_on_device,
    smallest_budgets,
    with_prompt_attention,
)
from tests.engine.harness import PLENTY, generate, open_llm, tokens_of

BUDGET, LACKING = 8 * MIB, 300 * KIB
NO_MEMORY = no_memory("computing on the GPU", LACKING)
LOST = DeviceError("The GPU failed while computing (unspecified launch failure); start again.")
SAMPLED = SamplingParams(max_tokens=24, temperature=1.0, ignore_eos=True)
UNEQUAL = [SamplingParams(max_tokens=length, ignore_eos=True) for length in (2, 40, 40, 40)]


@pytest.fixture
def fail(monkeypatch):
    """The device refuses what is launched as number `work`, now or when it comes to it."""

    def set_failure(work: int, error: Exception, at_once: bool = True) -> None:
        launch, numbers = WorkerStream.launch, itertools.count()

        def refuse() -> None:
            raise error

        def launched(stream, given):
            if not stream._thread.name.endswith("compute") or next(numbers) != work:
                launch(stream, given)
            elif at_once:
                refuse()
            else:
                launch(stream, refuse)

        monkeypatch.setattr(WorkerStream, "launch", launched)

    return set_failure


def memory_that_fails(monkeypatch, times: int) -> list[weakref.ref]:
    """The first `times` demands for the memory of a plan are refused; what others got."""
    tier, taken, numbers = StandIn.tier, [], itertools.count()

    def refusing(device, capacity_bytes):
        assert all(memory() is None for memory in taken), "two plans hold memory at once"
        if next(numbers) < times:
            raise no_memory("weights and cache", LACKING)
        found = tier(device, capacity_bytes)
        taken.append(weakref.ref(found))
        return found

    monkeypatch.setattr(StandIn, "tier", refusing)
    return taken


def replanning(folder, gpu_memory=BUDGET, **options) -> LLM:
    return open_on_device(folder, gpu_memory, on_oom="replan", **options)


def test_memory_that_is_refused_is_done_without(toy, monkeypatch, caplog):
    folder = toy("llama")
    memory_that_fails(monkeypatch, times=2)
    with replanning(folder) as llm:
        assert tokens_of(llm, PROMPTS) == generate(folder, PLENTY, PROMPTS)
        assert llm.plan.device.budget_bytes <= BUDGET - 2 * LACKING
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 2
    assert "300.00 KiB lacking" in warnings[0]
    assert "4 unfinished sequence(s)" in warnings[0]


@pytest.mark.parametrize("attention", ["device", "cpu"])
@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("work", [0, 30, 75])
def test_a_run_goes_on_with_the_same_tokens(
    toy, monkeypatch, caplog, fail, work, at_once, attention
):
    folder = toy("llama")
    with open_llm(folder) as llm:
        wanted = tokens_of(llm, PROMPTS, SAMPLED)
    memory_that_fails(monkeypatch, times=0)
    fail(work, NO_MEMORY, at_once)
    with replanning(folder, attention=attention) as llm:
        assert tokens_of(llm, PROMPTS, SAMPLED) == wanted
        assert llm.plan.device.budget_bytes < BUDGET - LACKING
        assert (llm.stats.redone_tokens > 0) == (work > 0)
        assert sum(sweep.decode_tokens for sweep in llm.stats.sweeps) == 23 * len(PROMPTS)
    assert len(caplog.records) == 1


@pytest.mark.parametrize("work", [0, 5, 30])
def test_so_does_one_whose_prompts_the_device_attends_to(toy, fail, work):
    folder = toy("llama")
    with open_llm(folder) as llm:
        wanted = tokens_of(llm, PROMPTS, SAMPLED)
    fail(work, NO_MEMORY)
    with replanning(folder, attention="cpu") as llm:
        llm.profile = with_prompt_attention(cpu_flops=1e5, gpu_flops=1e12)
        assert tokens_of(llm, PROMPTS, SAMPLED) == wanted
        assert llm.plan.device.prompt_blocks > 0
        assert llm.plan.device.budget_bytes < BUDGET - LACKING


def test_finished_outputs_are_not_computed_again(toy, fail):
    folder = toy("llama")
    with open_llm(folder) as llm:
        wanted = [output.outputs[0].token_ids for output in llm.generate(PROMPTS, UNEQUAL)]
    with replanning(folder) as llm:
        outputs = llm.generate_each(PROMPTS, UNEQUAL)
        first = next(outputs)
        fail(0, NO_MEMORY)
        rest = sorted(outputs, key=lambda output: output.index)
    assert [one.outputs[0].token_ids for one in (first, *rest)] == wanted


def test_log_probabilities_are_given_once(toy, fail):
    folder = toy("llama")
    params = SamplingParams(max_tokens=12, logprobs=2, prompt_logprobs=2, ignore_eos=True)
    with open_llm(folder) as llm:
        wanted = llm.generate(PROMPTS, params)
    fail(40, NO_MEMORY)
    with replanning(folder) as llm:
        found = llm.generate(PROMPTS, params)
    for one, other in zip(found, wanted, strict=True):
        assert one.prompt_logprobs == other.prompt_logprobs
        assert one.outputs[0].logprobs == other.outputs[0].logprobs


def test_unasked_the_run_ends_with_the_next_budget(toy, fail):
    folder = toy("llama")
    with open_on_device(folder, BUDGET) as llm:
        outputs = llm.generate_each(PROMPTS, UNEQUAL)
        first = next(outputs)
        fail(0, NO_MEMORY)
        with pytest.raises(
            DeviceMemoryError, match=r"300.00 KiB lacking.*--on-oom replan"
        ) as caught:
            list(outputs)
        assert first.outputs[0].finish_reason == "length"
        assert f"--gpu-memory {(BUDGET * 31 // 32 - LACKING) // KIB}KiB" in str(caught.value)
        assert tokens_of(llm, PROMPTS) == generate(folder, PLENTY, PROMPTS)


def test_where_no_smaller_plan_is_left_both_are_said(toy, fail):
    folder = toy("llama")
    gpu_bytes, _ = smallest_budgets(folder)
    fail(10, NO_MEMORY)
    with replanning(folder, gpu_bytes, attention="device") as llm:
        with pytest.raises(
            DeviceMemoryError, match=r"no smaller plan is left\. A GPU memory budget"
        ):
            tokens_of(llm, PROMPTS)
        assert llm.device.budget_bytes == gpu_bytes


def test_memory_that_is_always_refused_ends_the_run(toy, monkeypatch):
    memory_that_fails(monkeypatch, times=1 << 30)
    with replanning(toy("llama")) as llm, pytest.raises(DeviceMemoryError, match="no smaller plan"):
        llm.generate(PROMPTS)


def test_a_saved_plan_is_left_where_it_has_no_room(toy, monkeypatch):
    folder = toy("llama")
    with open_on_device(folder, BUDGET) as llm:
        made = llm.plan_for(Workload(tuple(map(len, PROMPTS)), (16,) * len(PROMPTS)))
    memory_that_fails(monkeypatch, times=1)
    with replanning(folder, plan=choice_of(made)) as llm:
        assert tokens_of(llm, PROMPTS) == generate(folder, PLENTY, PROMPTS)
        assert llm.plan.device.budget_bytes < made.device.budget_bytes


@pytest.mark.parametrize("on_oom", ["stop", "replan"])
def test_a_lost_device_ends_the_run_and_keeps_what_is_finished(toy, fail, on_oom):
    folder = toy("llama")
    with open_on_device(folder, BUDGET, on_oom=on_oom) as llm:
        outputs = llm.generate_each(PROMPTS, UNEQUAL)
        first = next(outputs)
        fail(3, LOST, at_once=False)
        with pytest.raises(DeviceError, match="unspecified launch failure"):
            list(outputs)
    assert first.outputs[0].token_ids == generate(folder, PLENTY, PROMPTS)[0][:2]


def test_the_option_is_checked(toy):
    with pytest.raises(ConfigError, match="on_oom=replan was given without GPU memory"):
        LLM(toy("llama"), cpu_memory=PLENTY, on_oom="replan")
    with pytest.raises(ConfigError, match="allowed are stop and replan"):
        open_on_device(toy("llama"), BUDGET, on_oom="retry")
