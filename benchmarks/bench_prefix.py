"""Time to first tokens of prompts with a common prefix, with and without sharing it.

The embedded model runs the full case, 64 prompts with 1024 tokens in common; larger ones run a part
of it, since computing every prompt takes minutes there::

    python -m benchmarks.bench_prefix --json out.json
    python -m benchmarks.bench_prefix --model .checkpoints/llama-1.1b --weight-format int4 \
        --prompts 8 --prefix-len 256 --rounds 1 --json out.json
"""

from __future__ import annotations

import random
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.entry import result_parser, run
from benchmarks.peers.protocol import FIRST_PLAIN_TOKEN_ID
from benchmarks.result import report
from benchmarks.round_ratio import quotients, with_interval
from lm_offload import LLM, SamplingParams, Workload
from lm_offload.demo import demo_path

TAIL_LEN = 16  # tokens of each prompt's own
ONE_TOKEN = SamplingParams(max_tokens=1, ignore_eos=True)


@dataclass(frozen=True)
class Case:
    """Prompts with `prefix_len` tokens in common, a multiple of the tokens of a block."""

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
    """Measure both ways; a row, then one JSON line."""
    parser = result_parser(__doc__)
    parser.add_argument("--model", type=Path, default=demo_path())
    parser.add_argument("--weight-format")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--prefix-len", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    sizes = args.prompts, args.prefix_len, args.threads, args.rounds
    report("prefix", [row_of(Case(args.model, args.weight_format, *sizes))], args.json)


def row_of(case: Case) -> dict[str, object]:
    """One case both ways, the fastest round of each."""
    rounds = [measure(case, sharing) for sharing in (False, True)]
    apart, shared = (min(runs, key=lambda run: run.last_s) for runs in rounds)
    sooner = quotients(*([run.last_s for run in runs] for runs in rounds))
    tokens = [[run.tokens for run in runs] for runs in rounds]
    computed, read = measure_stored(case)
    return {
        "model": case.model.name,
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
        "rounds": case.rounds,
        **with_interval("times_sooner", sooner),
        "median_times_sooner": apart.median_s / shared.median_s,
        "one_prompt_first_token_s": {"computed": computed.last_s, "read": read.last_s},
        "read_same_tokens": computed.tokens == read.tokens,
        "read_times_sooner": computed.last_s / read.last_s,
    }


def measure(case: Case, sharing: bool) -> list[Run]:
    """Every round; each has prompts that no call before has seen."""
    with LLM(
        case.model, threads=case.threads, weight_format=case.weight_format, prefix_sharing=sharing
    ) as llm:
        llm.load(case.workload(sharing))
        llm.generate([[FIRST_PLAIN_TOKEN_ID]], ONE_TOKEN)  # starts threads, touches the weights
        return [first_tokens(llm, make_prompts(llm, case, seed)) for seed in range(case.rounds)]


def measure_stored(case: Case) -> list[Run]:
    """One prompt, computed by one engine and read from disk by the next."""
    with tempfile.TemporaryDirectory(dir=".") as folder:
        return [measure_one(case, Path(folder)) for _ in range(2)]


def measure_one(case: Case, prefix_cache: Path) -> Run:
    """One prompt by an engine of its own."""
    with LLM(
        case.model, threads=case.threads, weight_format=case.weight_format,
        prefix_cache=prefix_cache,
    ) as llm:  # fmt: skip
        llm.load(Workload((case.prefix_len + TAIL_LEN,), (1,)))
        llm.generate([[FIRST_PLAIN_TOKEN_ID]], ONE_TOKEN)
        return first_tokens(llm, make_prompts(llm, case, seed=0)[:1])


def first_tokens(llm: LLM, prompts: list[list[int]]) -> Run:
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
    run(main)
