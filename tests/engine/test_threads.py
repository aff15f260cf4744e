"""The threads of a plan are those that the engine runs on, and the text does not depend on them."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lm_offload import LLM
from lm_offload.errors import ConfigError
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.plan import ThreadPlan, Workload
from lm_offload.planner.decided.plan_choice import choice_of
from lm_offload.planner.decided.plan_text import plan_text, read_plan
from tests.engine.harness import GREEDY, PROFILE, generate, open_llm, prompts_of, tokens_of

PROMPTS = prompts_of(7, 20, 3)
WORKLOAD = Workload(tuple(map(len, PROMPTS)), (GREEDY.max_tokens,) * len(PROMPTS))


def with_cores(cores: int) -> HardwareProfile:
    return replace(PROFILE, cpu=replace(PROFILE.cpu, threads=cores))


@pytest.mark.parametrize("threads", [ThreadPlan(1, 3, 1), ThreadPlan(4, 2, 2)])
@pytest.mark.parametrize("budget", ["400KiB", "64MiB"])
def test_any_threads_give_the_same_text(toy, threads: ThreadPlan, budget: str) -> None:
    expected = generate(toy("llama"), "64MiB", PROMPTS)
    with LLM(toy("llama"), cpu_memory=budget) as llm:
        llm.profile = with_cores(4)
        choice = replace(choice_of(llm.plan_for(WORKLOAD)), threads=threads)
    with LLM(toy("llama"), cpu_memory=budget, plan=choice) as llm:
        llm.profile = with_cores(4)
        assert tokens_of(llm, PROMPTS) == expected
        assert llm.plan is not None
        assert llm.plan.threads == threads
    torch.set_num_threads(1)


@pytest.mark.parametrize(("block_bytes", "more"), [(4096, 1), (8 << 20, 0)])
def test_units_of_many_blocks_are_read_by_one_more(toy, block_bytes: int, more: int) -> None:
    expected = generate(toy("llama"), "64MiB", PROMPTS)
    with open_llm(toy("llama"), "400KiB") as llm:
        choice = replace(choice_of(llm.plan_for(WORKLOAD)), read_block=block_bytes)
    with LLM(toy("llama"), cpu_memory="400KiB", plan=choice) as llm:
        assert tokens_of(llm, PROMPTS) == expected
        readers = [it for it in threading.enumerate() if it.name.startswith("disk-read")]
        assert len(readers) == choice.read_concurrency + more


def test_nobody_reads_what_is_in_memory(toy) -> None:
    with open_llm(toy("llama"), "64MiB") as llm:
        llm.load(WORKLOAD)
        assert not [it for it in threading.enumerate() if it.name.startswith("disk-read")]


def test_torch_samples_on_the_threads_of_the_plan(toy) -> None:
    torch.set_num_threads(3)
    with open_llm(toy("llama"), "64MiB") as llm:
        llm.load(WORKLOAD)
        assert torch.get_num_threads() == 1


def test_threads_are_saved_and_read_and_may_be_left_out(toy, tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    with open_llm(toy("llama"), "64MiB") as llm:
        plan = replace(llm.plan_for(WORKLOAD), threads=ThreadPlan(5, 2, 1))
    text = plan_text(plan, "toy")
    file.write_text(text)
    assert read_plan(file).threads == ThreadPlan(5, 2, 1)
    file.write_text("".join(line for line in text.splitlines(True) if "threads" not in line))
    assert read_plan(file).threads is None


@pytest.mark.parametrize("bad", ["2", "{compute: 2}", "{compute: 0, attention: 1, sampling: 1}"])
def test_threads_that_are_none_are_refused(toy, tmp_path: Path, bad: str) -> None:
    file = tmp_path / "plan.yaml"
    with open_llm(toy("llama"), "64MiB") as llm:
        lines = plan_text(llm.plan_for(WORKLOAD), "toy").splitlines(True)
    lines = [f"threads: {bad}\n" if line.startswith("threads") else line for line in lines]
    file.write_text("".join(lines))
    with pytest.raises(ConfigError, match=r"threads.* in plan.yaml is .*; allowed is"):
        read_plan(file)
