"""Experts that take one another's homes: the same tokens, fewer reads, nothing left of faults."""

from __future__ import annotations

import errno
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lm_offload import LLM, SamplingParams, Workload
from lm_offload.errors import CheckpointError, StorageError
from lm_offload.pipeline.runner import ModelRunner
from lm_offload.planner.decided.plan_choice import PlanChoice, choice_of
from tests.engine.harness import open_llm, prompts_of, tokens_of
from tests.toy import MIXTURE_TYPES

PROMPTS = prompts_of(5, 1, 34)
LONG = SamplingParams(max_tokens=24, ignore_eos=True)
WORKLOAD = Workload(tuple(map(len, PROMPTS)), (24,) * len(PROMPTS))


@pytest.fixture(params=MIXTURE_TYPES)
def folder(toy, request):
    return toy(request.param)


def with_homes(folder: Path, per_layer: int, ring_experts: int = 2) -> PlanChoice:
    """A plan with the first experts of each layer in memory, the others on disk."""
    with open_llm(folder) as llm:
        plan = llm.plan_for(WORKLOAD)
        ring = ring_experts * max(
            it.size_bytes for it in llm.files.layouts if ".expert." in it.name
        )
    homes = tuple(f".expert.{number}" for number in range(per_layer))
    streamed = tuple(it for it in plan.resident if ".expert." in it and not it.endswith(homes))
    others = tuple(name for name in plan.resident if name not in streamed)
    return replace(choice_of(plan), resident=others, streamed=streamed, expert_ring=ring)


def homes_taken(llm: LLM) -> bool:
    """Whether an expert that the plan has on disk lives in memory."""
    machinery = llm._engine.machinery
    layouts = enumerate(machinery.store.layouts)
    return any(
        it.name in machinery.plan.streamed and machinery.store.has_home(at) for at, it in layouts
    )


@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize("per_layer", [1, 2, 4])
def test_the_same_tokens_with_and_without_them_in_one_batch(folder, per_layer, overlap):
    plan = with_homes(folder, per_layer, ring_experts=1)
    with open_llm(folder) as llm:
        wanted = tokens_of(llm, PROMPTS, LONG)
    with open_llm(folder, plan=plan, overlap=overlap) as llm:
        assert tokens_of(llm, PROMPTS, LONG) == wanted
        assert homes_taken(llm)
        for prompt, tokens in zip(PROMPTS, wanted, strict=True):  # what stayed serves later runs
            assert tokens_of(llm, [prompt], LONG) == [tokens]


def test_what_was_read_and_found_is_counted(folder):
    with open_llm(folder, plan=replace(with_homes(folder, 2), draft_rows=0)) as llm:
        tokens_of(llm, PROMPTS[:1], LONG)
        sizes = [it.size_bytes for it in llm.files.layouts if ".expert." in it.name]
        layers, stats = llm.files.config.mixture_layers, llm.stats
    assert 0 < stats.experts_read < stats.experts_used
    for sweep in stats.decode:
        assert sweep.experts_used == 2 * layers
        least, most = (sweep.experts_read * size for size in (min(sizes), max(sizes)))
        assert least <= sweep.time.read_bytes <= most


def test_experts_in_memory_are_counted_as_found(folder):
    with open_llm(folder) as llm:
        tokens_of(llm, PROMPTS[:1], LONG)
        assert llm.stats.experts_used > llm.stats.experts_read == 0


def test_one_prompt_again_and_again_reads_less(folder):
    """The experts of one token come to lie in memory, but for those that fit no home."""
    with open_llm(folder, plan=with_homes(folder, 2)) as llm:
        reads = []
        for _ in range(6):
            tokens_of(llm, [PROMPTS[1]], SamplingParams(max_tokens=1, ignore_eos=True))
            reads.append(llm.stats.experts_read)
    assert reads[-1] < reads[0], reads


def test_a_run_that_is_left_between_sweeps_goes_on_with_what_it_has(folder):
    plan = with_homes(folder, 2)
    with open_llm(folder) as llm:
        wanted = tokens_of(llm, PROMPTS, LONG)
    with open_llm(folder, plan=plan) as llm:
        outputs = llm.generate_each(PROMPTS, [replace(LONG, max_tokens=3), LONG, LONG])
        next(outputs)
        outputs.close()
        assert tokens_of(llm, PROMPTS, LONG) == wanted


@pytest.mark.parametrize("number", [40, 71, 133])
def test_ctrl_c_leaves_an_engine_that_works(folder, monkeypatch, number):
    real_compute, calls = ModelRunner.compute, iter(range(number))

    def compute(self, task):
        if next(calls, None) is None:
            raise KeyboardInterrupt
        real_compute(self, task)

    with open_llm(folder) as llm:
        wanted = tokens_of(llm, PROMPTS, LONG)
    with open_llm(folder, plan=with_homes(folder, 2)) as llm:
        with monkeypatch.context() as patch:
            patch.setattr(ModelRunner, "compute", compute)
            with pytest.raises(KeyboardInterrupt):
                llm.generate(PROMPTS, LONG)
        assert tokens_of(llm, PROMPTS, LONG) == wanted


@pytest.mark.parametrize("reads", [2, 9, 30])
def test_an_error_of_the_disk_leaves_an_engine_that_works(folder, monkeypatch, reads):
    plan, real_preadv, left = with_homes(folder, 2), os.preadv, iter(range(reads))

    def preadv(*args):
        if next(left, None) is None:
            raise OSError(errno.EIO, "Input/output error")
        return real_preadv(*args)

    with open_llm(folder) as llm:
        wanted = tokens_of(llm, PROMPTS, LONG)
    with open_llm(folder, plan=plan) as llm:
        llm.load(WORKLOAD)
        with monkeypatch.context() as patch:
            patch.setattr(os, "preadv", preadv)
            with pytest.raises(StorageError, match="check the disk"):
                llm.generate(PROMPTS, LONG)
        assert tokens_of(llm, PROMPTS, LONG) == wanted


@pytest.mark.parametrize("expert", [0, 4])
def test_a_weight_that_is_no_number_is_named_wherever_it_lies(toy, tmp_path, expert):
    folder = Path(shutil.copytree(toy("mixtral"), tmp_path / "model"))
    tensors = load_file(folder / "model.safetensors")
    name = f"model.layers.1.block_sparse_moe.experts.{expert}.w2.weight"
    tensors[name].fill_(torch.nan)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with open_llm(folder, plan=with_homes(folder, 2)) as llm:
        message = rf"Weight down_proj of layers\.1\.expert\.{expert} holds NaN"
        with pytest.raises(CheckpointError, match=message):
            llm.generate(PROMPTS, LONG)


def test_a_trace_names_what_is_read_into_homes(folder, tmp_path):
    trace = tmp_path / "trace.json"
    with open_llm(folder, plan=with_homes(folder, 2), trace=trace) as llm:
        tokens_of(llm, PROMPTS, LONG)
    events = json.loads(trace.read_text())["traceEvents"]
    assert any(".expert." in event.get("name", "") for event in events)
