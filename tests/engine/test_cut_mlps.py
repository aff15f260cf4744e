"""MLPs of two units: every weight is read once for all rows, and no bit changes."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_offload import SamplingParams, Workload
from lm_offload.arch.halves import are_cut
from lm_offload.cli.inspection import inspect_model
from lm_offload.demo import demo_path
from lm_offload.engine.planning import sizes_of
from lm_offload.errors import ConfigError
from lm_offload.kernels.torch_kernels import TorchKernels
from lm_offload.planner.decided.plan_choice import PlanChoice, choice_of
from lm_offload.planner.decided.plan_text import plan_text
from tests.engine.harness import (
    GREEDY,
    PLENTY,
    LogitsRecorder,
    generate,
    open_llm,
    prompts_of,
    smallest_budget,
    spilled,
    tokens_of,
)
from tests.quantized import toy_shapes
from tests.toy import load_oracle

PROMPTS = prompts_of(5, 1, 34, 17)
WORKLOAD = Workload(tuple(map(len, PROMPTS)), (GREEDY.max_tokens,) * len(PROMPTS))
WIDE = {"hidden_size": 64, "intermediate_size": 128}


def cut(folder: Path, **changes: Any) -> PlanChoice:
    """A plan in the units of cut MLPs; of layers all are read in every sweep, or as `changes` say.

    `kept` are numbers of units in memory; the ring holds the two largest that are not.
    """
    options = {name: changes.pop(name, None) for name in ("kv_format", "weight_format")}
    kept, base = changes.pop("kept", ()), changes.pop("base", None)
    with open_llm(folder, **options) as llm:
        choice = base or choice_of(llm.plan_for(WORKLOAD))
        model = sizes_of(llm.files).cut
    assert model is not None
    sizes = {sized.unit.name: sized.size_bytes for sized in model.units}
    moved = [name for name in sizes if name.startswith("layers.")]
    streamed = tuple(name for number, name in enumerate(moved) if number not in kept)
    resident = tuple(name for name in sizes if name not in streamed)
    ring = sum(sorted(sizes[name] for name in streamed)[-2:])
    parts = {"resident": resident, "streamed": streamed, "ring": ring, "retention": False}
    return replace(choice, **{**parts, "draft_rows": 0, **changes})


def generated(folder: Path, plan: PlanChoice, prompts=PROMPTS, **options: Any) -> list[list[int]]:
    """By an engine that runs the plan, whose units are read in every sweep."""
    with open_llm(folder, plan=plan, **options) as llm:
        tokens = tokens_of(llm, prompts)
        assert llm.plan is not None
        assert llm.plan.streamed == plan.streamed
        return tokens


def bits(folder: Path, prompts, monkeypatch, **options: Any) -> torch.Tensor:
    recorder = LogitsRecorder(monkeypatch)
    generate(folder, PLENTY, prompts, **options)
    return torch.stack(recorder.rows)


@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize("model_type", ["llama", "phi3", "gemma2", "olmo2", "qwen3_5_text"])
def test_logits_are_those_of_whole_mlps_and_of_transformers(toy, monkeypatch, model_type, overlap):
    folder = toy(model_type)
    wanted = bits(folder, [PROMPTS[2]], monkeypatch)
    found = bits(folder, [PROMPTS[2]], monkeypatch, plan=cut(folder), overlap=overlap)
    assert torch.equal(found, wanted)
    output = generated(folder, cut(folder), [PROMPTS[2]])[0]
    with torch.no_grad():
        logits = load_oracle(folder)(torch.tensor([PROMPTS[2] + output[:-1]])).logits[0]
    torch.testing.assert_close(found, logits[len(PROMPTS[2]) - 1 :], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("weight_format", ["int8:64", "int4:32", "fp8:row", "int8:64:a8"])
def test_quantized_weights_are_cut_where_they_lie(toy, cache, monkeypatch, weight_format):
    folder = toy("llama", **toy_shapes("llama"), tie_word_embeddings=True)
    options = {"weight_format": weight_format}
    wanted = bits(folder, PROMPTS[2:3], monkeypatch, **options)
    written = {file: file.stat().st_mtime_ns for file in cache.rglob("*.bin")}
    assert written
    found = bits(folder, PROMPTS[2:3], monkeypatch, plan=cut(folder, **options), **options)
    assert torch.equal(found, wanted)
    assert {file: file.stat().st_mtime_ns for file in cache.rglob("*.bin")} == written


@settings(max_examples=20)
@given(
    model_type=st.sampled_from(["llama", "gemma3_text", "glm4", "stablelm"]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    kept=st.sets(st.integers(0, 11), max_size=11),
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=5),
    rows=st.integers(5, 80),
    micro=st.integers(1, 80),
    overlap=st.booleans(),
    retention=st.booleans(),
)
def test_any_batch_any_chunks_any_units(
    toy, model_type, dtype, kept, lengths, rows, micro, overlap, retention
):
    folder, prompts = toy(model_type, dtype=dtype), prompts_of(*lengths)
    sizes = {"sweep_tokens": rows, "micro_batch_tokens": min(micro, rows), "kept": kept}
    sizes |= {"max_sequences": min(3, rows), "kv_blocks": 60, "spare_sequences": 0}
    plan = cut(folder, **sizes)
    if retention and overlap:
        plan = replace(plan, retention=None)
    with open_llm(folder, plan=plan, overlap=overlap) as llm:
        assert tokens_of(llm, prompts) == generate(folder, PLENTY, prompts)


@settings(max_examples=15)
@given(
    factor=st.floats(1.0, 2.5),
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=5),
    name=st.sampled_from(["llama", "qwen3", "gemma"]),
)
def test_any_budget(toy, factor, lengths, name):
    folder, prompts = toy(name, intermediate_size=176), prompts_of(*lengths)
    smallest = smallest_budget(folder, prompts, GREEDY.max_tokens)
    expected = generate(folder, PLENTY, prompts)
    assert generate(folder, int(smallest * factor), prompts) == expected


def test_the_smallest_budget_has_mlps_cut(toy):
    folder = toy("llama", hidden_size=128, intermediate_size=704)
    budget = smallest_budget(folder, PROMPTS[:1], GREEDY.max_tokens)
    with open_llm(folder, budget) as llm:
        tokens = tokens_of(llm, PROMPTS[:1])
        assert llm.plan is not None
        assert are_cut(llm.plan.streamed)
        assert llm.plan.ring_bytes < max(layout.size_bytes for layout in llm.files.layouts)
        assert "inner rows" in dict(llm.plan.memory)
        assert all(sweep.time.read_bytes for sweep in llm.stats.sweeps[1:])
    assert tokens == generate(folder, PLENTY, PROMPTS[:1])


@pytest.mark.parametrize("kv_format", [None, "int8"])
def test_keys_and_values_on_disk(toy, tmp_path, kv_format):
    folder = toy("llama", **WIDE)
    plan = cut(folder, base=spilled(folder, WORKLOAD, (0, 2), kv_format=kv_format))
    options = {"kv_format": kv_format}
    found = generated(folder, plan, spill_dir=tmp_path, **options)
    assert found == generate(folder, PLENTY, PROMPTS, **options)


def test_drafts_change_no_token(toy):
    folder = toy("llama", vocab_size=10)  # so few that random text repeats itself
    prompts = [[token % 10 for token in prompt] for prompt in prompts_of(20, 27, 5, 34)]
    params = SamplingParams(max_tokens=40, ignore_eos=True)
    plan = cut(folder, draft_rows=8, sweep_tokens=64, micro_batch_tokens=16, kv_blocks=40)
    with open_llm(folder, speculation="off") as llm:
        wanted = tokens_of(llm, prompts, params)
    with open_llm(folder, plan=plan, speculation="prompt-lookup") as llm:
        assert tokens_of(llm, prompts, params) == wanted
        assert llm.stats.accepted


def test_decode_replays_both_halves(monkeypatch):
    native = pytest.importorskip("lm_offload.kernels.native_kernels").NativeKernels
    folder, prompts = demo_path(), prompts_of(9, 30)
    found = generated(folder, cut(folder, kept=(1, 5, 6)), prompts)
    monkeypatch.setattr(native, "record", TorchKernels.record)
    assert generate(folder, PLENTY, prompts) == found


def test_a_trace_names_the_halves(toy, tmp_path):
    folder, file = toy("llama"), tmp_path / "trace.json"
    generated(folder, cut(folder), trace=file)
    names = {event.get("name") for event in json.loads(file.read_text())["traceEvents"]}
    halves = ("gate_up", "down")
    wanted = [[f"{kind} layers.1.{half}" for half in halves] for kind in ("read", "compute")]
    assert names >= {*chain.from_iterable(wanted)}
    assert "compute layers.1.mlp" not in names


def test_a_saved_plan_is_read_again(toy, tmp_path):
    folder, file = toy("llama"), tmp_path / "plan.yaml"
    with open_llm(folder, plan=cut(folder)) as llm:
        wanted = tokens_of(llm, PROMPTS)
        assert llm.plan is not None
        file.write_text(plan_text(llm.plan, "toy"))
    with open_llm(folder, plan=file) as llm:
        assert tokens_of(llm, PROMPTS) == wanted
        assert llm.plan is not None
        assert are_cut(llm.plan.streamed)


def test_whole_mlps_and_halves_in_one_plan_are_refused(toy):
    plan = cut(toy("llama"))
    mixed = [name for name in plan.streamed if name not in ("layers.0.gate_up", "layers.0.down")]
    edited = replace(plan, streamed=(*mixed, "layers.0.mlp"))
    with (
        open_llm(toy("llama"), plan=edited) as llm,
        pytest.raises(ConfigError, match=r"does not have \(layers\.0\.mlp\)"),
    ):
        llm.plan_for(WORKLOAD)


def test_models_without_halves_have_no_such_plan(toy):
    plan = cut(toy("llama"))
    for model_type in ("opt", "mixtral", "cohere"):
        with (
            open_llm(toy(model_type), plan=plan) as llm,
            pytest.raises(ConfigError, match="units that the model does not have"),
        ):
            llm.plan_for(WORKLOAD)


def test_inspect_lists_the_units_of_the_plan(toy):
    folder = toy("llama", hidden_size=128, intermediate_size=704)
    found = inspect_model(str(folder), WORKLOAD, str(smallest_budget(folder, PROMPTS, 8)))
    kinds = {kind.kind: kind.count for kind in found.kinds}
    assert kinds["gate_up"] == kinds["down"]
    assert sum(kind.size_bytes for kind in found.kinds) >= found.weight_bytes
