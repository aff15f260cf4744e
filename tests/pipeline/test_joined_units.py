"""Which units may be one task with their neighbours, and what decode makes of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lm_offload import LLM, SamplingParams
from lm_offload.arch.config import load_config
from lm_offload.arch.weights import build_units
from lm_offload.models.registry import load_model
from lm_offload.pipeline.joined_units import joined_units
from lm_offload.pipeline.runner import ModelRunner
from lm_offload.schedule.task import Task
from tests.newer_toys import GEMMA4_MIXTURE


def joined_kinds(folder, staged=(), **changes) -> list[str]:
    config = replace(load_config(folder), **changes)
    units = build_units(config, 1 << 20)
    found = joined_units(units, config, load_model(config.model_type), staged)
    return [units[number].kind for number in sorted(found)]


def test_all_of_llama_but_its_embedding(toy):
    layers = load_config(toy("llama")).num_layers
    kinds = joined_kinds(toy("llama"))
    assert kinds[: 2 * layers] == ["attention", "mlp"] * layers
    assert kinds[2 * layers] == "final_norm"
    assert set(kinds[2 * layers + 1 :]) == {"head"}


@pytest.mark.parametrize("model_type", ["gemma2", "gemma4_text", "olmo2", "exaone4", "arcee"])
def test_norms_behind_blocks_and_squares_are_kernels_too(toy, model_type):
    config = load_config(toy(model_type))
    kinds = joined_kinds(toy(model_type))
    assert kinds[: 2 * config.num_layers] == ["attention", "mlp"] * config.num_layers
    assert "final_norm" in kinds
    assert ("head" in kinds) == (config.final_softcap is None)


@pytest.mark.parametrize(
    ("model_type", "changes"), [("afmoe", {}), ("gemma4_text", GEMMA4_MIXTURE)]
)
def test_a_step_after_experts_is_kernels_too(toy, model_type, changes):
    folder = toy(model_type, **changes)
    config = load_config(folder)
    every = [layer for layer in range(config.num_layers) if config.sums_experts(layer)]
    units = build_units(config, 1 << 20)
    found = joined_units(units, config, load_model(model_type), tabled=every)
    layer = [
        unit.kind
        for number, unit in enumerate(units)
        if unit.index == every[-1] and number in found
    ]
    assert layer == ["attention", "router", *["expert"] * config.num_experts, "mlp"]


def test_not_what_torch_computes_nor_what_waits_for_the_disk(toy):
    assert "head" not in joined_kinds(toy("llama"), final_softcap=30.0)
    assert "head" not in joined_kinds(toy("granite"))
    assert "expert" not in joined_kinds(toy("mixtral"))
    assert "recurrent" not in joined_kinds(toy("qwen3_5_text"))
    first = joined_kinds(toy("llama"))
    assert joined_kinds(toy("llama"), staged={1}) == first[1:]


@pytest.mark.parametrize("traced", [False, True])
def test_a_resident_model_is_two_tasks_unless_a_trace_is_to_show_its_units(
    toy, tmp_path, monkeypatch, traced
):
    seen: list[Task] = []
    compute = ModelRunner.compute

    def noted(self: ModelRunner, task: Task) -> None:
        seen.append(task)
        compute(self, task)

    monkeypatch.setattr(ModelRunner, "compute", noted)
    path = tmp_path / "trace.json" if traced else None
    with LLM(toy("llama"), cpu_memory="64MiB", speculation="off", trace=path) as llm:
        llm.generate([[3, 4, 5]], SamplingParams(max_tokens=6, ignore_eos=True))
        count = len(llm.files.units)
    last = [task for task in seen if task.id.sweep == seen[-1].id.sweep]
    assert [task.units for task in last] == ([1] * count if traced else [1, count - 1])
