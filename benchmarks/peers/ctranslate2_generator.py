"""Runner: CTranslate2 on weights converted for it, everything in memory.

It has no bf16 on processors without such units: the checkpoint's own precision is stored in fp16
and computed in fp32, as it does by itself.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.peers.protocol import Generate, Generation, Peer, run_peer


def import_libraries() -> str:
    """Import what a generation needs; the version that is measured."""
    import ctranslate2

    return str(ctranslate2.__version__)


def model_folder(args: argparse.Namespace) -> Path:
    """Where the converted weights lie."""
    return Path(args.work_dir) / (args.weight_format or "float16")


def prepare(args: argparse.Namespace) -> None:
    """Convert the checkpoint."""
    from benchmarks.peers.ctranslate2_convert import convert

    convert(args.model, model_folder(args), args.weight_format or "float16")


def load(args: argparse.Namespace) -> Generate:
    """Load the model."""
    import ctranslate2

    compute_type = "int8" if args.weight_format == "int8" else "float32"
    generator = ctranslate2.Generator(
        str(model_folder(args)), "cpu", compute_type=compute_type, intra_threads=args.threads
    )
    return lambda prompts, gen_len: generate(generator, prompts, gen_len)


def generate(generator: Any, prompts: list[list[int]], gen_len: int) -> Generation:
    """Run the prompts; a token's word is its id, see the converter."""
    first_s: dict[int, float] = {}

    def note_time(step: Any) -> bool:
        first_s.setdefault(step.batch_id, time.perf_counter())
        return False  # go on

    start_s = time.perf_counter()
    results = generator.generate_batch(
        [[str(token_id) for token_id in prompt] for prompt in prompts],
        min_length=gen_len,  # no early stop
        max_length=gen_len,
        include_prompt_in_result=False,
        callback=note_time,
    )
    end_s = time.perf_counter()
    tokens = [list(result.sequences_ids[0]) for result in results]
    return Generation(start_s, max(first_s.values()), end_s, tokens)


if __name__ == "__main__":
    sys.exit(run_peer(Peer("ctranslate2", import_libraries, load, prepare)))
