"""Runner: this project, with the limit as its budget."""

from __future__ import annotations

import argparse
import sys
import time

from benchmarks.peers.protocol import Generation, Peer, run_peer


def import_libraries() -> str:
    """Import what a generation needs; the version that is measured."""
    import lm_offload
    import lm_offload.engine.llm
    import lm_offload.models.llama
    from lm_offload.kernels.resolve import resolve_kernels

    return f"{lm_offload.__version__} ({resolve_kernels(1).name})"


def generate(args: argparse.Namespace, prompts: list[list[int]]) -> Generation:
    """Load what the plan keeps in memory, then run the prompts."""
    from lm_offload import LLM, SamplingParams, Workload

    workload = Workload((args.prompt_len,) * args.batch, (args.gen_len,) * args.batch)
    with LLM(args.model, cpu_memory=args.limit_bytes, threads=args.threads) as llm:
        llm.load(workload)
        start_s = time.perf_counter()
        outputs = llm.generate(prompts, SamplingParams(max_tokens=args.gen_len, ignore_eos=True))
        end_s = time.perf_counter()
    first_token_s = start_s + max(output.ttft_s for output in outputs)
    return Generation(start_s, first_token_s, end_s, [o.outputs[0].token_ids for o in outputs])


if __name__ == "__main__":
    sys.exit(run_peer(Peer("lm_offload", import_libraries, generate)))
