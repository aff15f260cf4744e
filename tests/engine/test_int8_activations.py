"""Weights that are multiplied with activations of 8 bits: another format with the same file."""

from __future__ import annotations

import pytest

from lm_offload import LLM
from lm_offload.engine.quantized_export import quantize_model
from lm_offload.errors import ConfigError
from lm_offload.plan import Workload
from lm_offload.planner.decided.plan_choice import choice_of
from tests.engine.harness import (
    GREEDY,
    PLENTY,
    LogitsRecorder,
    generate,
    open_llm,
    prompts_of,
    smallest_budget,
    tokens_of,
)
from tests.quantized import toy_shapes

PROMPTS = prompts_of(5, 1, 34, 17)
FORMAT = "int4:64:a8"


@pytest.fixture(scope="module")
def folder(toy, tmp_path_factory):
    """A toy, with a cache for what is made of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LM_OFFLOAD_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield toy("llama", **toy_shapes("llama"))


def test_tokens_depend_on_the_format_alone(folder) -> None:
    wanted = generate(folder, PLENTY, PROMPTS, weight_format=FORMAT)
    alone = [generate(folder, PLENTY, [each], weight_format=FORMAT)[0] for each in PROMPTS]
    assert alone == wanted
    least = smallest_budget(folder, PROMPTS, GREEDY.max_tokens, weight_format=FORMAT)
    assert generate(folder, least, PROMPTS, weight_format=FORMAT) == wanted


def test_it_reads_the_weights_that_were_made_for_the_other_format(folder, monkeypatch) -> None:
    calls, rows = [], []
    hook = {"on_quantize": lambda *done: calls.append(done)}
    generate(folder, PLENTY, PROMPTS, weight_format="int4:64")
    for weight_format in ("int4:64", "int4:a8"):
        with monkeypatch.context() as patch:
            recorder = LogitsRecorder(patch)
            generate(folder, PLENTY, PROMPTS[2:3], weight_format=weight_format, **hook)
        rows.append(recorder.rows[0])
    assert calls == []
    off = float((rows[0] - rows[1]).std() / rows[0].std())  # int4 itself is off by half
    assert 1e-3 < off < 0.2


def test_a_saved_plan_keeps_it(folder) -> None:
    workload = Workload((34,), (8,))
    with open_llm(folder, weight_format=FORMAT) as llm:
        wanted, choice = tokens_of(llm, PROMPTS), choice_of(llm.plan_for(workload))
    assert choice.weight_format == FORMAT
    with open_llm(folder, plan=choice) as llm:
        assert tokens_of(llm, PROMPTS[2:3]) == wanted[2:3]


def test_a_folder_of_its_own_holds_the_format_without_it(folder, tmp_path) -> None:
    made = quantize_model(folder, FORMAT, tmp_path / "own", 1, lambda *_: None)
    assert made.format == "int4:64"
    wanted = generate(folder, PLENTY, PROMPTS, weight_format=FORMAT)
    assert generate(tmp_path / "own", PLENTY, PROMPTS, weight_format=FORMAT) == wanted


def test_what_it_cannot_be_together_with(folder) -> None:
    with pytest.raises(ConfigError, match="would be int4:64:a8, which is not exact"):
        open_llm(folder, weight_format=FORMAT, exact=True)
    with pytest.raises(ConfigError, match="on the CPU alone, name int4:64 or leave the GPU out"):
        LLM(folder, weight_format=FORMAT, gpu_memory="8MiB", device="standin:2GB/s")
