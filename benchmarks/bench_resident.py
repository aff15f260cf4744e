"""Everything in memory: decode against memory bandwidth, prefill against the product rate.

The limits are measured in the same process, right before each of our own measurements: reading the
model's bytes once per token at batch 1, and the machine's best matrix product at prefill::

    python -m benchmarks.bench_resident --model .checkpoints/llama-1.1b --json out.json
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

from benchmarks.bench_streaming import Case, decode_sweeps, sweep_s
from benchmarks.peers.protocol import make_prompts
from benchmarks.testbed import collect, largest_weight_file, memory_read_bytes_per_s
from lm_offload import LLM, SamplingParams, Workload
from lm_offload.arch.accounting import unit_flops

ROUNDS = 3
PREFILL_LEN = 512


def main() -> None:
    """Measure decode at each batch size and one prefill; a row each, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--gen-len", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    bed = collect(largest_weight_file(args.model), args.threads)
    rows = [
        decode_row(Case(args.model, batch, args.gen_len, args.threads)) for batch in args.batches
    ]
    rows.append(prefill_row(args.model, args.threads, best_product_rate(bed)))
    for row in rows:
        print(row)
    result = {"benchmark": "resident", "testbed": bed, "rows": rows}
    print(json.dumps(result))
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


def best_product_rate(bed: dict[str, object]) -> float:
    """The fastest matrix product that torch reached on this machine, any precision or packing."""
    measured = bed["measured"]
    assert isinstance(measured, dict)
    return max(rate for rate in measured["matmul_flops_per_s"].values() if rate)


def decode_row(case: Case) -> dict[str, object]:
    """Decode of one batch size, and at batch 1 its share of what memory bandwidth allows."""
    rates, seconds, shares = [], [], []
    with LLM(case.model, threads=case.threads, speculation="off") as llm:
        llm.load(Workload((32,) * case.batch, (case.gen_len,) * case.batch))
        weight_bytes = sum(layout.weight_bytes for layout in llm.files.layouts)
        for _ in range(ROUNDS):
            rates.append(memory_read_bytes_per_s(case.threads))
            seconds.append(sweep_s(decode_sweeps(llm, case)))
            shares.append(weight_bytes / rates[-1] / seconds[-1])
    row: dict[str, object] = {
        "phase": "decode",
        "batch": case.batch,
        "tokens_per_s": case.batch / statistics.median(seconds),
        "memory_read_bytes_per_s": round(statistics.median(rates)),
        "share_of_memory_bound": statistics.median(shares),
    }
    return row


def prefill_row(model: Path, threads: int, product_flops: float) -> dict[str, object]:
    """Prefill of one long prompt as a share of the machine's product rate."""
    seconds = []
    with LLM(model, threads=threads, speculation="off") as llm:
        llm.load(Workload((PREFILL_LEN,), (2,)))
        flops = PREFILL_LEN * sum(
            unit_flops(unit) for unit in llm.files.units if unit.kind != "head"
        )
        prompts = make_prompts(model, 1, PREFILL_LEN, seed=0)
        for _ in range(ROUNDS):
            llm.generate(prompts, SamplingParams(max_tokens=2, ignore_eos=True))
            seconds.append(llm.stats.prefill_s)
    prefill_s = statistics.median(seconds)
    return {
        "phase": "prefill",
        "prompt_len": PREFILL_LEN,
        "tokens_per_s": PREFILL_LEN / prefill_s,
        "flops_per_s": round(flops / prefill_s),
        "best_torch_product_flops_per_s": round(product_flops),
        "share_of_product_rate": flops / prefill_s / product_flops,
    }


if __name__ == "__main__":
    main()
