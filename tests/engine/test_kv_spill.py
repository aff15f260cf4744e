"""Keys and values on disk: the same tokens as in memory, whatever lies where."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_offload import Workload
from lm_offload.errors import ConfigError, StorageError
from lm_offload.kvcache.cache import blocks_for
from lm_offload.kvcache.spilled import SpilledCache
from tests.engine.harness import (
    GREEDY,
    PLENTY,
    generate,
    open_llm,
    prompts_of,
    smallest_budget,
    spilled,
    tokens_of,
)
from tests.toy import DENSE_TYPES

PROMPTS = prompts_of(5, 1, 34, 90, 15, 16)
WORKLOAD = Workload(tuple(map(len, PROMPTS)), (GREEDY.max_tokens,) * len(PROMPTS))


@pytest.mark.parametrize("model_type", DENSE_TYPES)
@pytest.mark.parametrize("layers", [(1,), (0, 1, 2)])
def test_tokens_are_those_of_a_cache_in_memory(toy, tmp_path, model_type, layers):
    folder = toy(model_type)
    plan = spilled(folder, WORKLOAD, layers)
    found = generate(folder, PLENTY, PROMPTS, plan=plan, spill_dir=tmp_path)
    assert found == generate(folder, PLENTY, PROMPTS)
    assert not list(tmp_path.iterdir())


@settings(max_examples=15)
@given(
    name=st.sampled_from([None, "int8", "int4", "bf16"]),
    model_type=st.sampled_from(["llama", "mistral", "gemma3_text"]),
    lengths=st.lists(st.integers(1, 90), min_size=1, max_size=7),
    layers=st.sets(st.integers(0, 2), min_size=1).map(sorted).map(tuple),
    in_flight=st.integers(1, 4),
    rows=st.integers(1, 40),
    micro_rows=st.integers(1, 40),
    groups=st.integers(1, 3),
    overlap=st.booleans(),
)
def test_any_batch_and_any_chunks(
    toy, name, model_type, lengths, layers, in_flight, rows, micro_rows, groups, overlap
):
    folder, prompts = toy(model_type, dtype=torch.bfloat16), prompts_of(*lengths)
    workload = Workload(tuple(lengths), (GREEDY.max_tokens,) * len(lengths))
    longest = max(map(blocks_for, workload.total_lens))
    plan = spilled(
        folder,
        workload,
        layers,
        kv_format=name,
        max_sequences=in_flight,
        sweep_tokens=max(rows, in_flight),
        micro_batch_tokens=min(micro_rows, max(rows, in_flight)),
        kv_group_blocks=groups * longest,
        kv_ring_blocks=groups * longest + 1,
    )
    found = generate(folder, PLENTY, prompts, plan=plan, kv_format=name, overlap=overlap)
    assert found == generate(folder, PLENTY, prompts, kv_format=name)


@settings(max_examples=5)
@given(
    name=st.sampled_from([None, "int8", "int4"]),
    factor=st.floats(1, 2.5),
    lengths=st.lists(st.integers(20, 120), min_size=1, max_size=6),
)
def test_any_budget(toy, name, factor, lengths):
    folder, prompts = toy("llama", num_hidden_layers=6), prompts_of(*lengths)
    budget = int(smallest_budget(folder, prompts, GREEDY.max_tokens, kv_format=name) * factor)
    expected = generate(folder, PLENTY, prompts, kv_format=name)
    assert generate(folder, budget, prompts, kv_format=name) == expected


@pytest.mark.parametrize("model_type", ["llama", "mistral", "gemma3_text"])
def test_prefixes_in_common_are_read_from_disk(toy, model_type):
    folder = toy(model_type)
    head, *tails = prompts_of(70, 5, 33, 1, 20)
    prompts = [head + tail for tail in tails]
    workload = Workload(tuple(map(len, prompts)), (GREEDY.max_tokens,) * len(prompts))
    rows = {"sweep_tokens": 90, "micro_batch_tokens": 40}
    expected = generate(folder, PLENTY, prompts, prefix_sharing=False)
    with open_llm(folder, plan=spilled(folder, workload, (0, 2), **rows)) as llm:
        outputs = [llm.generate(prompts, GREEDY) for _ in range(2)]  # within a call and across
    for found in outputs:
        assert [list(output.outputs[0].token_ids) for output in found] == expected
    assert [output.num_cached_tokens for output in outputs[0]] == [0, 64, 64, 64]
    assert outputs[1][0].num_cached_tokens == 64


@pytest.mark.parametrize(
    ("model_type", "kv_format"), [("llama", None), ("llama", "int4"), ("gemma3_text", "bf16")]
)
def test_prefixes_of_other_processes_wherever_their_layers_lay(
    toy, tmp_path, model_type, kv_format
):
    folder, full_blocks = toy(model_type), [0, 0, 32, 80, 0, 0]
    expected = generate(folder, PLENTY, PROMPTS, kv_format=kv_format)
    for layers, cached in (((1,), [0] * 6), ((0, 1, 2), full_blocks), ((), full_blocks)):
        plan = spilled(folder, WORKLOAD, layers, kv_format=kv_format) if layers else None
        options = {"plan": plan, "kv_format": kv_format, "prefix_cache": tmp_path}
        with open_llm(folder, PLENTY, **options) as llm:
            outputs = llm.generate(PROMPTS, GREEDY)
        assert [list(output.outputs[0].token_ids) for output in outputs] == expected
        assert [output.num_cached_tokens for output in outputs] == cached


@pytest.mark.parametrize("moved", ["write_block", "read_block"])
def test_a_disk_that_fails_under_kept_prefixes_costs_nothing_but_them(
    toy, tmp_path, monkeypatch, caplog, moved
):
    folder = toy("llama")
    expected = generate(folder, PLENTY, PROMPTS, prefix_cache=tmp_path)
    if moved == "read_block":  # what the second engine fills is read to be kept
        shutil.rmtree(next(tmp_path.iterdir()))
    plan = spilled(folder, WORKLOAD, (0, 2))
    with open_llm(folder, PLENTY, plan=plan, prefix_cache=tmp_path) as llm:
        llm.load(WORKLOAD)
        monkeypatch.setattr(SpilledCache, moved, _broken)
        assert tokens_of(llm, PROMPTS) == expected
    (warning,) = [record.message for record in caplog.records if "prefix cache" in record.message]
    assert "no such luck" in warning


def _broken(*_: object) -> None:
    raise StorageError("no such luck")


def test_no_drafts_where_keys_and_values_lie_on_disk(toy):
    folder = toy("llama")
    plan = spilled(folder, WORKLOAD, (1,))
    with (
        pytest.raises(ConfigError, match="draft_rows is 4, allowed is 0"),
        open_llm(folder, plan=replace(plan, draft_rows=4), speculation="prompt-lookup") as llm,
    ):
        llm.plan_for(WORKLOAD)
    found = generate(folder, PLENTY, PROMPTS, plan=plan, speculation="auto")
    assert found == generate(folder, PLENTY, PROMPTS, speculation="prompt-lookup")


def test_a_longer_sequence_than_can_be_staged_gets_another_plan(toy):
    folder = toy("llama")
    short = Workload((8,) * 9, (8,) * 9)
    with open_llm(folder, plan=spilled(folder, short, (1,))) as llm:
        tokens_of(llm, prompts_of(*[8] * 9))
        with pytest.raises(ConfigError, match="stages 1 KV blocks together"):
            tokens_of(llm, prompts_of(40))


def test_a_trace_shows_reads_and_writes_of_the_cache(toy, tmp_path):
    folder, file = toy("llama"), tmp_path / "trace.json"
    generate(folder, PLENTY, PROMPTS, plan=spilled(folder, WORKLOAD, (1,)), trace=file)
    events = json.loads(file.read_text())["traceEvents"]
    names = {(event["name"], event["tid"]) for event in events if event["ph"] == "X"}
    assert {("read_kv layers.1.attention", 2), ("write_kv layers.1.attention", 3)} <= names


def test_sweeps_say_what_they_read(toy):
    folder = toy("llama")
    with open_llm(folder, plan=spilled(folder, WORKLOAD, (0, 2))) as llm:
        tokens_of(llm, [PROMPTS[3]])
        sweeps = [sweep.time for sweep in llm.stats.sweeps]
    block_bytes = 16 * 2 * 2 * 16 * 4
    assert [sweep.kv_read_bytes for sweep in sweeps] == [0] + [2 * 5 * block_bytes] * 6 + [
        2 * 6 * block_bytes
    ]
