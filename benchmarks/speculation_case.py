"""One checkpoint with one sort of prompts, engines for it, and what their runs add up to."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.weight_files import weight_file_bytes
from lm_offload import LLM, SamplingParams, Workload


@dataclass(frozen=True)
class Case:
    """One checkpoint with one sort of prompts."""

    model: Path
    prompts: str
    prompt_len: int
    gen_len: int
    rounds: int
    threads: int
    budget_frac: float
    draft_model: Path | None = None

    @property
    def params(self) -> SamplingParams:
        """Greedy; for loops used tokens become likelier, or random weights hardly repeat any."""
        penalty = -2.0 if self.prompts == "loop" else 0.0
        return SamplingParams(frequency_penalty=penalty, ignore_eos=True)

    @property
    def budget_bytes(self) -> int:
        """A part of the checkpoint's bytes."""
        return int(weight_file_bytes(self.model) * self.budget_frac)


@dataclass
class Total:
    """Decode of several runs."""

    seconds: float = 0.0
    tokens: int = 0
    sweeps: int = 0
    drafted: int = 0
    accepted: int = 0
    runs_s: list[float] = field(default_factory=list)  # prompt after prompt

    def add(self, llm: LLM) -> None:
        """Count the last run."""
        self.seconds += llm.stats.decode_s
        self.runs_s.append(llm.stats.decode_s)
        self.tokens += sum(sweep.decode_tokens for sweep in llm.stats.decode)
        self.sweeps += len(llm.stats.decode)
        self.drafted += llm.stats.drafted
        self.accepted += llm.stats.accepted


def open_llm(case: Case, prompts: list[list[int]], resident: bool = False, **how: Any) -> LLM:
    """An engine loaded for the case, within its budget or with all in memory."""
    budget = None if resident else case.budget_bytes
    llm = LLM(case.model, cpu_memory=budget, threads=case.threads, **how)
    llm.load(Workload((max(map(len, prompts)),), (case.gen_len,)))
    return llm


def generated(llm: LLM, case: Case, prompt: list[int], total: Total) -> list[int]:
    """The tokens of one run, which is added to `total`."""
    params = replace(case.params, max_tokens=case.gen_len)
    tokens = llm.generate([prompt], params)[0].outputs[0].token_ids
    total.add(llm)
    return tokens
