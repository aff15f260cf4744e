"""What every peer's runner has in common: arguments, prompts, memory readings, the result line.

A runner is one module with a `main` that calls `run_peer`; it runs in the peer's own environment,
so only the standard library is imported here. It prints one JSON object when its model is loaded,
and one more for each number of tokens that it reads from its input.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SAMPLE_TOKENS = 8  # of the first sequence, in the result: peers should agree on most of them
WEIGHT_FORMATS = ("int8", "int4")  # each engine's own: for llama.cpp Q8_0 and Q4_0
FIRST_PLAIN_TOKEN_ID = 16  # ids below may be special tokens


@dataclass(frozen=True)
class Generation:
    """One greedy run: times of a monotonic clock in seconds, tokens by sequence."""

    start_s: float
    first_token_s: float
    end_s: float
    token_ids: list[list[int]]


Generate = Callable[[list[list[int]], int], Generation]  # of prompts and tokens to generate


@dataclass(frozen=True)
class Peer:
    """A runner's parts: `load` returns what generates, `prepare` converts the checkpoint before."""

    name: str
    import_libraries: Callable[[], str]
    load: Callable[[argparse.Namespace], Generate]
    prepare: Callable[[argparse.Namespace], None] | None = None


def add_workload(parser: argparse.ArgumentParser) -> None:
    """The arguments that say what is generated, by how many threads."""
    parser.add_argument("--model", type=Path, required=True, help="Hugging Face folder")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--prompt-len", type=int, default=32)
    parser.add_argument("--gen-len", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments that all runners take."""
    parser = argparse.ArgumentParser()
    add_workload(parser)
    parser.add_argument("--work-dir", type=Path, required=True, help="for converted weights")
    parser.add_argument("--limit-bytes", type=int, help="memory that the model may use")
    parser.add_argument("--weight-format", choices=WEIGHT_FORMATS, help="default: as stored")
    parser.add_argument(
        "--int8-activations", action="store_true", help="round activations too, which is lossy"
    )
    parser.add_argument("--prepare-only", action="store_true", help="convert the weights, no run")
    return parser.parse_args(argv)


def make_prompts(model: Path, batch: int, prompt_len: int, seed: int) -> list[list[int]]:
    """`batch` prompts of `prompt_len` random token ids, the same for every peer."""
    vocab = json.loads((model / "config.json").read_text())["vocab_size"]
    draw = random.Random(seed)
    return [
        [draw.randrange(FIRST_PLAIN_TOKEN_ID, vocab) for _ in range(prompt_len)]
        for _ in range(batch)
    ]


def resident_bytes() -> int:
    """The resident set of this process now."""
    return _status_bytes("VmRSS")


def peak_resident_bytes() -> int:
    """The largest resident set of this process so far.

    Not from getrusage: its maximum counts the parent's pages, which a child has until it execs.
    """
    return _status_bytes("VmHWM")


def _status_bytes(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return 0


def rates(run: Generation, prompt_len: int) -> dict[str, float]:
    """Seconds and tokens/s of both phases; the first token counts as the end of prefill."""
    batch, steps = len(run.token_ids), len(run.token_ids[0]) - 1
    prefill_s, decode_s = run.first_token_s - run.start_s, run.end_s - run.first_token_s
    return {
        "prefill_s": round(prefill_s, 4),
        "prefill_tokens_per_s": round(batch * prompt_len / prefill_s, 3),
        "decode_s": round(decode_s, 4),
        "decode_tokens_per_s": round(batch * steps / decode_s, 3) if steps else 0.0,
    }


def run_peer(peer: Peer, argv: Sequence[str] | None = None) -> int:
    """Prepare, or load and generate as often as asked; an exception becomes its `error`."""
    args = parse_args(argv)
    result: dict[str, Any] = {"peer": peer.name, "error": None}
    try:
        with contextlib.redirect_stdout(sys.stderr):
            result["version"] = peer.import_libraries()
            result["rss_after_import_bytes"] = resident_bytes()
            if args.prepare_only:
                if peer.prepare:
                    peer.prepare(args)
            else:
                generate = peer.load(args)
        _tell(result)
        if not args.prepare_only:
            _serve(generate, args, result)
    except Exception as error:  # whatever a peer raises is its result
        _tell({**result, "error": f"{type(error).__name__}: {error}"})
        return 1
    return 0


def _serve(generate: Generate, args: argparse.Namespace, result: dict[str, Any]) -> None:
    for call, line in enumerate(sys.stdin):  # new prompts, so that no engine meets one again
        prompts = make_prompts(args.model, args.batch, args.prompt_len, args.seed + call)
        with contextlib.redirect_stdout(sys.stderr):
            found = _measure(generate, prompts, int(line))
        _tell(result | found)


def _tell(result: dict[str, Any]) -> None:
    print(json.dumps(result), flush=True)


def _measure(generate: Generate, prompts: list[list[int]], gen_len: int) -> dict[str, Any]:
    run = generate(prompts, gen_len)
    short = [len(tokens) for tokens in run.token_ids if len(tokens) != gen_len]
    if short:
        raise RuntimeError(f"a sequence got {short[0]} tokens instead of {gen_len}")
    return {
        **rates(run, len(prompts[0])),
        "peak_rss_bytes": peak_resident_bytes(),
        "sample_token_ids": run.token_ids[0][:SAMPLE_TOKENS],
    }
