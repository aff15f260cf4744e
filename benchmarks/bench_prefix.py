"""Time to first tokens of prompts with a common prefix, with and without sharing it.

The embedded model runs the full case, 64 prompts with 1024 tokens in common; a larger one a part of
it, since computing every prompt takes minutes there::

    python -m benchmarks.bench_prefix --model .checkpoints/llama-1.1b --json out.json
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.protocol import FIRST_PLAIN_TOKEN_ID
from benchmarks.testbed import describe
from lm_offload import LLM, SamplingParams, Workload
from lm_offload.demo import demo_path

TAIL_LEN = 16  # tokens of each prompt's own
ONE_TOKEN = SamplingParams(max_tokens=1, ignore_eos=True)


@dataclass(frozen=True)
class Case:
    """Prompts with `prefix_len` tokens in common, a multiple of the tokens of a block."""

    name: str
    model: Path
    weight_format: str | None
    prompts: int
    prefix_len: int
    threads: int
    rounds: int

    def workload(self, sharing: bool) -> Workload:
        """What is loaded for: the plan with sharing has fewer KV blocks."""
        shared = (0, *[self.prefix_len] * (self.prompts - 1)) if sharing else ()
        lengths = (self.prefix_len + TAIL_LEN,) * self.prompts
        return Workload(lengths, (1,) * self.prompts, shared_lens=shared)


@dataclass(frozen=True)
class Run:
    """Of one call: seconds until the last and the median first token, and what came out."""

    last_s: float
    median_s: float
    cached_tokens: int
    kv_blocks: int
    tokens: list[int]


def main() -> None:
    """Measure each case both ways; a row each, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="beside the embedded one")
    parser.add_argument("--weight-format", default="int4")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--prefix-len", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    cases = [Case("demo", demo_path(), None, 64, 1024, args.threads, rounds=2)]
    if args.model:
        how = args.weight_format, args.prompts, args.prefix_len, args.threads
        cases.append(Case(args.model.name, args.model, *how, rounds=1))
    rows = [row_of(case) for case in cases]
    for row in rows:
        print(row)
    result = {"benchmark": "prefix", "testbed": describe(), "rows": rows}
    print(json.dumps(result))
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


def row_of(case: Case) -> dict[str, object]:
    """One case both ways, the fastest round of each."""
    rounds = [measure(case, sharing) for sharing in (False, True)]
    apart, shared = (min(runs, key=lambda run: run.last_s) for runs in rounds)
    tokens = [[run.tokens for run in runs] for runs in rounds]
    return {
        "model": case.name,
        "weight_format": case.weight_format or "own",
        "prompts": case.prompts,
        "prefix_len": case.prefix_len,
        "tail_len": TAIL_LEN,
        "threads": case.threads,
        "same_tokens": tokens[0] == tokens[1],
        "cached_tokens": shared.cached_tokens,
        "kv_blocks": {"apart": apart.kv_blocks, "shared": shared.kv_blocks},
        "last_first_token_s": {"apart": apart.last_s, "shared": shared.last_s},
        "median_first_token_s": {"apart": apart.median_s, "shared": shared.median_s},
        "times_sooner": apart.last_s / shared.last_s,
        "median_times_sooner": apart.median_s / shared.median_s,
    }


def measure(case: Case, sharing: bool) -> list[Run]:
    """Every round; each has prompts that no call before has seen."""
    how = {"weight_format": case.weight_format, "prefix_sharing": sharing}
    with LLM(case.model, threads=case.threads, **how) as llm:
        llm.load(case.workload(sharing))
        llm.generate([[FIRST_PLAIN_TOKEN_ID]], ONE_TOKEN)  # starts threads, touches the weights
        return [run(llm, make_prompts(llm, case, seed)) for seed in range(case.rounds)]


def run(llm: LLM, prompts: list[list[int]]) -> Run:
    """One token for each prompt."""
    outputs = llm.generate(prompts, ONE_TOKEN)
    seconds = [output.ttft_s for output in outputs]
    tokens = [output.outputs[0].token_ids[0] for output in outputs]
    assert llm.plan is not None
    cached, blocks = llm.stats.cached_tokens, llm.plan.kv_blocks
    return Run(max(seconds), statistics.median(seconds), cached, blocks, tokens)


def make_prompts(llm: LLM, case: Case, seed: int) -> list[list[int]]:
    """Random token ids, the first of them alike in all prompts."""
    draw = random.Random(seed)

    def tokens(count: int) -> list[int]:
        return [draw.randrange(FIRST_PLAIN_TOKEN_ID, llm.files.config.vocab_size)
                for _ in range(count)]  # fmt: skip

    prefix = tokens(case.prefix_len)
    return [prefix + tokens(TAIL_LEN) for _ in range(case.prompts)]


if __name__ == "__main__":
    main()
