"""Drafts from the text itself against one token a sweep, at batch 1 with half of the checkpoint.

Both engines take the same prompts in turn, greedily, and must give the same tokens. A second pair
of runs spoils every draft before it is verified, so that none is ever accepted: what that costs is
the price of drafts where they do not help. Prompts are Python functions with their first lines
once more (`code`, for the demo model), or what the model itself said before (`loop`, for random
weights, with a negative frequency penalty, or their text would not repeat itself)::

    python -m benchmarks.bench_speculation --model .checkpoints/llama-1.1b --prompts loop
    python -m benchmarks.bench_speculation --prompts code --gen-len 96
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from unittest.mock import patch

from benchmarks.testbed import collect, largest_weight_file
from lm_offload import LLM, SamplingParams, Workload
from lm_offload.demo import demo_path
from lm_offload.speculation.prompt_lookup import PromptLookup

SEED_TOKENS = 8
FUNCTION_CHARACTERS = 700  # of a function that is shown whole
REPEATED_CHARACTERS = 120  # of its beginning, to be continued


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

    @property
    def params(self) -> SamplingParams:
        """Greedy; for loops used tokens become likelier, or random weights hardly repeat any."""
        penalty = -2.0 if self.prompts == "loop" else 0.0
        return SamplingParams(frequency_penalty=penalty, ignore_eos=True)

    @property
    def budget_bytes(self) -> int:
        """A part of the checkpoint's bytes."""
        size = sum(path.stat().st_size for path in self.model.glob("*.safetensors"))
        return int(size * self.budget_frac)


@dataclass
class Total:
    """Decode of several runs."""

    seconds: float = 0.0
    tokens: int = 0
    sweeps: int = 0
    drafted: int = 0
    accepted: int = 0

    def add(self, llm: LLM) -> None:
        """Count the last run."""
        self.seconds += llm.stats.decode_s
        self.tokens += sum(sweep.decode_tokens for sweep in llm.stats.decode)
        self.sweeps += len(llm.stats.decode)
        self.drafted += llm.stats.drafted
        self.accepted += llm.stats.accepted


def main() -> None:
    """Measure one case and print a row for each way, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=demo_path())
    parser.add_argument("--prompts", choices=("code", "loop"), default="code")
    parser.add_argument("--prompt-len", type=int, default=96, help="of prompts that are loops")
    parser.add_argument("--gen-len", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--budget-frac", type=float, default=0.5)
    parser.add_argument("--json", type=Path)
    args = vars(parser.parse_args())
    file = args.pop("json")
    case = Case(**args)
    bed = collect(largest_weight_file(case.model), case.threads)
    result = {"benchmark": "speculation", "testbed": bed, "rows": [measure(case)]}
    print(json.dumps(result))
    if file:
        file.write_text(json.dumps(result, indent=1) + "\n")


def measure(case: Case) -> dict[str, object]:
    """All ways in turn, prompt after prompt."""
    prompts = {"code": code_prompts, "loop": loop_prompts}[case.prompts](case)
    off, auto, spoiled = Total(), Total(), Total()
    with open_llm(case, prompts, "off") as plain, open_llm(case, prompts, "auto") as drafting:
        for prompt in prompts:
            wanted = run(plain, case, prompt, off)
            assert run(drafting, case, prompt, auto) == wanted, "drafts changed the text"
            with spoiled_drafts(drafting.files.config.vocab_size):
                assert run(drafting, case, prompt, spoiled) == wanted, "drafts changed the text"
        plan = drafting.plan
    assert plan is not None
    for name, total in (("off", off), ("auto", auto), ("never accepted", spoiled)):
        print(format_row(name, total, off), flush=True)
    return {
        "model": case.model.name,
        "prompts": case.prompts,
        "budget_bytes": plan.budget_bytes,
        "streamed_bytes": plan.streamed_bytes,
        "draft_rows": plan.draft_rows,
        "off": vars(off),
        "auto": vars(auto),
        "never_accepted": vars(spoiled),
        "speedup": off.seconds / auto.seconds,
        "never_accepted_slowdown": spoiled.seconds / off.seconds,
    }


def open_llm(case: Case, prompts: list[list[int]], speculation: str | None) -> LLM:
    """An engine loaded for the case; resident without a way to speculate."""
    budget = case.budget_bytes if speculation else None
    llm = LLM(case.model, cpu_memory=budget, threads=case.threads, speculation=speculation or "off")
    llm.load(Workload((max(map(len, prompts)),), (case.gen_len,)))
    return llm


def run(llm: LLM, case: Case, prompt: list[int], total: Total) -> list[int]:
    """The tokens of one run, which is added to `total`."""
    params = replace(case.params, max_tokens=case.gen_len)
    tokens = llm.generate([prompt], params)[0].outputs[0].token_ids
    total.add(llm)
    return tokens


@contextmanager
def spoiled_drafts(vocab_size: int) -> Iterator[None]:
    """Within the block every drafted token is replaced by another."""
    real_draft = PromptLookup.draft

    def draft(self: PromptLookup, count: int) -> tuple[int, ...]:
        return tuple((token + vocab_size // 2) % vocab_size for token in real_draft(self, count))

    with patch.object(PromptLookup, "draft", draft):
        yield


def loop_prompts(case: Case) -> list[list[int]]:
    """For each round a few tokens and what a resident model says after them."""
    starts = [[7 + 31 * index + 5 * place for place in range(SEED_TOKENS)]
              for index in range(case.rounds)]  # fmt: skip
    params = replace(case.params, max_tokens=case.prompt_len - SEED_TOKENS)
    with open_llm(case, starts, None) as llm:
        outputs = llm.generate(starts, params)
    return [it.prompt_token_ids + it.outputs[0].token_ids for it in outputs]


def code_prompts(case: Case) -> list[list[int]]:
    """For each round a function of the held-out text and its beginning once more."""
    text = (demo_path() / "heldout.txt").read_text(encoding="utf-8")
    pieces = text.split("\ndef ")[1:]
    long = (piece for piece in pieces if len(piece) >= FUNCTION_CHARACTERS)
    functions = [f"def {piece[:FUNCTION_CHARACTERS]}" for piece in islice(long, case.rounds)]
    with LLM(case.model, threads=case.threads) as llm:
        return [llm.tokenizer.encode(f"{it}\n\n\n{it[:REPEATED_CHARACTERS]}") for it in functions]


def format_row(name: str, total: Total, off: Total) -> str:
    """One way on one line."""
    return (
        f"{name:<15}{total.tokens / total.seconds:8.2f} tok/s, {total.tokens / total.sweeps:5.2f} "
        f"tokens a sweep of {total.seconds / total.sweeps * 1e3:7.1f} ms, {total.accepted} of "
        f"{total.drafted} drafted accepted, {off.seconds / total.seconds:.2f} x off"
    )


if __name__ == "__main__":
    main()
