"""Engines for tests: given rates in place of a measurement, so that plans repeat."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lm_offload import LLM, SamplingParams, Workload
from lm_offload.engine import engine as engine_module
from lm_offload.errors import BudgetError
from lm_offload.hardware.machine_file import load_machine
from lm_offload.kvcache.cache import blocks_for
from lm_offload.planner.decided.plan_choice import PlanChoice, choice_of
from lm_offload.units import parse_size

PROFILE = load_machine(Path(__file__).parents[1] / "null_machine.yaml")
PLENTY = "64MiB"
GREEDY = SamplingParams(max_tokens=8, ignore_eos=True)


def open_llm(folder: Path, budget: str | int = PLENTY, **options: Any) -> LLM:
    """An engine with one thread that takes the machine as given."""
    llm = LLM(folder, cpu_memory=budget, threads=1, **options)
    llm.profile = PROFILE
    return llm


def prompts_of(*lengths: int, seed: int = 0) -> list[list[int]]:
    """Random token ids, none of them special."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(3, 131, (length,), generator=generator).tolist() for length in lengths]


def tokens_of(llm: LLM, prompts: list[list[int]], params: Any = GREEDY) -> list[list[int]]:
    """The generated token ids of each prompt."""
    return [list(output.outputs[0].token_ids) for output in llm.generate(prompts, params)]


def generate(folder: Path, budget: str | int, prompts: list[list[int]], **options: Any):
    """The generated token ids by an engine that lives for this call only."""
    with open_llm(folder, budget, **options) as llm:
        return tokens_of(llm, prompts)


def smallest_budget(folder: Path, prompts: list[list[int]], max_tokens: int, **options: Any) -> int:
    """The bytes that the error for a hopeless budget names."""
    workload = Workload(tuple(map(len, prompts)), (max_tokens,) * len(prompts))
    with open_llm(folder, 1, **options) as llm, pytest.raises(BudgetError) as caught:
        llm.plan_for(workload)
    found = re.search(r"the smallest that works .*? is (.+? KiB)", str(caught.value))
    assert found
    return parse_size(found[1])


def spilled(folder, workload: Workload, layers: tuple[int, ...], **changes: Any) -> PlanChoice:
    """A plan with everything in memory but the keys and values of `layers`."""
    kv_format = changes.pop("kv_format", None)
    with open_llm(folder, kv_format=kv_format) as llm:
        choice = choice_of(llm.plan_for(workload))
    longest = max(map(blocks_for, workload.total_lens))
    sizes = {"kv_group_blocks": longest, "kv_ring_blocks": 2 * longest, "draft_rows": 0, **changes}
    return replace(choice, kv_on_disk=layers, **sizes)


class LogitsRecorder:
    """Keeps the logits that tokens are sampled from, by sequence position."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows: list[Tensor] = []
        real_sample = engine_module.sample_drafted

        def sample(logits: Tensor, likeliest: Any, rows: Any, drafts: Any) -> list[list[int]]:
            drawn, first = real_sample(logits, likeliest, rows, drafts), 0
            for tokens, draft in zip(drawn, drafts, strict=True):
                self.rows += list(logits[first : first + len(tokens)].clone())
                first += 1 + len(draft)
            return drawn

        monkeypatch.setattr(engine_module, "sample_drafted", sample)
