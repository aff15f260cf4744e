"""An engine that carries out a given plan, or one whose format the planner chose."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lm_offload import LLM, Workload
from lm_offload.errors import ConfigError
from lm_offload.planner.decided.plan_choice import choice_of
from lm_offload.planner.decided.plan_text import plan_text
from tests.engine.harness import GREEDY, PROFILE, generate, open_llm, prompts_of, tokens_of

PROMPTS = prompts_of(7, 20, 3)
WORKLOAD = Workload(tuple(map(len, PROMPTS)), (GREEDY.max_tokens,) * len(PROMPTS))
BUDGET = "400KiB"


def wide(toy) -> Path:
    """A model whose matrices can be cut into groups."""
    return toy("llama", hidden_size=64, intermediate_size=128)


@pytest.fixture
def saved(toy, tmp_path: Path) -> Path:
    """A plan that streams, made by the planner and written to a file."""
    file = tmp_path / "plan.yaml"
    with open_llm(toy("llama"), BUDGET) as llm:
        plan = llm.plan_for(WORKLOAD)
    assert plan.streamed
    file.write_text(plan_text(plan, "toy"))
    return file


def test_a_saved_plan_is_what_is_loaded(toy, saved: Path) -> None:
    expected = generate(toy("llama"), "64MiB", PROMPTS)
    with open_llm(toy("llama"), "64MiB", plan=saved) as llm:
        assert tokens_of(llm, PROMPTS) == expected
        assert llm.plan is not None
        assert llm.plan.streamed
        assert all(sweep.time.read_bytes for sweep in llm.stats.sweeps[1:])


def test_an_edited_plan_streams_what_it_says(toy, saved: Path) -> None:
    with open_llm(toy("llama"), "64MiB") as llm:
        choice = choice_of(llm.plan_for(WORKLOAD))
    everything = (*choice.resident, *choice.streamed)
    streamed = replace(choice, resident=(), streamed=everything, ring=1 << 20)
    with open_llm(toy("llama"), "64MiB", plan=streamed) as llm:
        tokens = tokens_of(llm, PROMPTS)
        assert llm.plan is not None
        assert llm.plan.resident == ("embed",)  # which has nothing to read
    assert tokens == generate(toy("llama"), "64MiB", PROMPTS)


def test_a_plan_that_is_too_small_for_the_prompts_is_refused(toy, saved: Path) -> None:
    with (
        open_llm(toy("llama"), "64MiB", plan=saved) as llm,
        pytest.raises(ConfigError, match="KV blocks"),
    ):
        llm.generate(prompts_of(200), GREEDY)


def test_a_format_that_contradicts_the_plan_is_refused(toy, saved: Path) -> None:
    with (
        open_llm(wide(toy), "64MiB", plan=saved, weight_format="int8:32") as llm,
        pytest.raises(ConfigError, match="allowed here is int8:32"),
    ):
        llm.plan_for(WORKLOAD)


def test_every_run_knows_its_prediction(toy) -> None:
    with open_llm(toy("llama"), BUDGET) as llm:
        before = llm.predicted(WORKLOAD)
        llm.generate(PROMPTS, GREEDY)
        assert llm.plan is not None
        assert llm.predicted(WORKLOAD).run_s == pytest.approx(llm.plan.predicted.run_s)
        assert before.run_s == pytest.approx(llm.plan.predicted.run_s)
        single = Workload((3,), (2,))
        assert llm.predicted(single).run_s < before.run_s


def test_auto_plans_in_every_format_and_quantizes_the_one_it_takes(toy) -> None:
    with LLM(wide(toy), cpu_memory="260KiB", threads=1, weight_format="auto") as llm:
        llm.profile = PROFILE
        plan = llm.plan_for(WORKLOAD)
        assert plan.weight_format == "int4:64"
        assert [str(files.stored_format) for files in llm.choices] == ["fp32", "int8:64", "int4:64"]
        llm.generate(PROMPTS, GREEDY)
        assert str(llm.files.weight_format) == "int4:64"


def test_auto_skips_formats_that_matrices_cannot_be_cut_for(toy) -> None:
    with LLM(toy("llama"), cpu_memory="64MiB", threads=1, weight_format="auto") as llm:
        llm.profile = PROFILE
        assert str(llm.choices[0].stored_format) == "fp32"
        assert llm.plan_for(WORKLOAD).weight_format == "fp32"


def test_a_loaded_plan_that_takes_everything_is_kept(toy, monkeypatch) -> None:
    with open_llm(toy("llama"), "64MiB") as llm:
        llm.generate(PROMPTS, GREEDY)
        monkeypatch.setattr(llm, "plan_for", None)  # nothing is planned again
        llm.generate(PROMPTS[:1], GREEDY)
