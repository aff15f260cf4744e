"""Runner: this project, with the limit as its budget."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from benchmarks.peers.protocol import Generate, Generation, Peer, run_peer

if TYPE_CHECKING:
    from lm_offload import LLM


def import_libraries() -> str:
    """Import what a generation needs; the version that is measured."""
    import lm_offload
    import lm_offload.engine.llm
    import lm_offload.models.llama
    from lm_offload.kernels.resolve import resolve_kernels

    return f"{lm_offload.__version__} ({resolve_kernels(1).name})"


def open_llm(args: argparse.Namespace) -> LLM:
    """The model within the limit; the first call with a format packs the weights."""
    from lm_offload import LLM

    rounding = ":a8" if args.int8_activations else ""
    return LLM(
        args.model,
        cpu_memory=args.limit_bytes,
        threads=args.threads,
        weight_format=args.weight_format + rounding if args.weight_format else None,
        prefix_sharing=False,  # the same work as the others do
        speculation="off",
    )


def prepare(args: argparse.Namespace) -> None:
    """Pack the weights where a format asks for it."""
    if args.weight_format:
        open_llm(args).close()


def load(args: argparse.Namespace) -> Generate:
    """Load what the plan keeps in memory."""
    from lm_offload import SamplingParams, Workload

    llm = open_llm(args)
    llm.load(Workload((args.prompt_len,) * args.batch, (args.gen_len,) * args.batch))

    def generate(prompts: list[list[int]], gen_len: int) -> Generation:
        start_s = time.perf_counter()
        outputs = llm.generate(prompts, SamplingParams(max_tokens=gen_len, ignore_eos=True))
        end_s = time.perf_counter()
        first_token_s = start_s + max(output.ttft_s for output in outputs)
        return Generation(start_s, first_token_s, end_s, [o.outputs[0].token_ids for o in outputs])

    return generate


if __name__ == "__main__":
    sys.exit(run_peer(Peer("lm_offload", import_libraries, load, prepare)))
