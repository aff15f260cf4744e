"""Everything in memory: decode against memory bandwidth, prefill against the product rate.

The ceilings (see ceilings.py) are measured in the same process, right before each of our own
measurements::

    python -m benchmarks.bench_resident --model .checkpoints/llama-1.1b --json out.json
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from pathlib import Path

from benchmarks.bench_streaming import Case, decode_sweeps, sweep_s
from benchmarks.ceilings import RateMeter, Rates, weights_of
from benchmarks.entry import result_parser, run
from benchmarks.peers.protocol import make_prompts
from benchmarks.result import Row, report
from benchmarks.round_ratio import with_interval
from benchmarks.testbed import collect
from benchmarks.weight_files import largest_weight_file
from lm_offload import LLM, SamplingParams, Workload

ROUNDS = 5
PREFILL_LEN = 512


def main() -> None:
    """Measure decode at each batch size and one prefill; a row each, then one JSON line."""
    parser = result_parser(__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--gen-len", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    bed = collect(largest_weight_file(args.model), args.threads)
    report("resident", measured_rows(args), args.json, bed=bed)


def measured_rows(args: argparse.Namespace) -> Iterator[Row]:
    """Decode at each batch size, then one prefill."""
    for batch in args.batches:
        yield decode_row(Case(args.model, batch, args.gen_len, args.threads))
    yield prefill_row(args.model, args.threads)


def decode_row(case: Case) -> dict[str, object]:
    """Decode of one batch size and its share of what memory and products allow."""
    weights, rates, seconds, shares = weights_of(case.model, None), [], [], []
    meter = RateMeter(case.model, None, False, case.threads)
    with LLM(case.model, threads=case.threads, prefix_sharing=False, speculation="off") as llm:
        llm.load(Workload((32,) * case.batch, (case.gen_len,) * case.batch))
        for _ in range(ROUNDS):
            rates.append(meter.read())
            seconds.append(sweep_s(decode_sweeps(llm, case)))
            bound_s = weights.seconds(weights.decode_flops, case.batch, None, rates[-1])
            shares.append(bound_s / seconds[-1])
    decode_rates = [case.batch / sweep for sweep in seconds]
    return {
        "phase": "decode",
        "batch": case.batch,
        "decode_tokens_per_s": statistics.median(decode_rates),
        "decode_tokens_per_s_runs": decode_rates,
        "memory_read_bytes_per_s": median_of(rates, "memory_read_bytes_per_s"),
        "product_flops_per_s": median_of(rates, "product_flops_per_s"),
        "decode_ceiling_frac_runs": shares,
        **with_interval("decode_ceiling_frac", shares),
    }


def median_of(rates: list[Rates], name: str) -> int:
    """The median of one of the machine's rates."""
    found: list[float] = [getattr(one, name) for one in rates]
    return round(statistics.median(found))


def prefill_row(model: Path, threads: int) -> dict[str, object]:
    """Prefill of one long prompt and its share of what memory and products allow."""
    weights, rates, seconds, shares = weights_of(model, None), [], [], []
    meter = RateMeter(model, None, False, threads)
    with LLM(model, threads=threads, prefix_sharing=False, speculation="off") as llm:
        llm.load(Workload((PREFILL_LEN,), (2,)))
        prompts = make_prompts(model, 1, PREFILL_LEN, seed=0)
        for _ in range(ROUNDS):
            rates.append(meter.read())
            llm.generate(prompts, SamplingParams(max_tokens=2, ignore_eos=True))
            seconds.append(llm.stats.prefill_s)
            bound_s = weights.seconds(weights.prefill_flops, PREFILL_LEN, None, rates[-1])
            shares.append(bound_s / seconds[-1])
    prefill_rates = [PREFILL_LEN / one for one in seconds]
    return {
        "phase": "prefill",
        "prompt_len": PREFILL_LEN,
        "prefill_tokens_per_s": statistics.median(prefill_rates),
        "prefill_tokens_per_s_runs": prefill_rates,
        "memory_read_bytes_per_s": median_of(rates, "memory_read_bytes_per_s"),
        "product_flops_per_s": median_of(rates, "product_flops_per_s"),
        "prefill_ceiling_frac_runs": shares,
        **with_interval("prefill_ceiling_frac", shares),
    }


if __name__ == "__main__":
    run(main)
