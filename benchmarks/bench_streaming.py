"""Streaming against its bound: how close a sweep comes to the larger of disk and compute.

With half of the checkpoint as budget, a decode sweep cannot be shorter than reading what is neither
resident nor retained in unused KV memory at the disk's own `O_DIRECT` rate (the engine's reads with
nothing computed), nor shorter than the same sweep fully resident. Both are measured here,
interleaved with the streamed sweeps, because a shared disk changes by the minute::

    python -m benchmarks.bench_streaming --model .checkpoints/llama-1.1b --json out.json
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path

from benchmarks.ceilings import RateMeter
from benchmarks.entry import result_parser, run
from benchmarks.peers.protocol import make_prompts
from benchmarks.result import Row, report
from benchmarks.round_ratio import with_interval
from benchmarks.testbed import collect
from benchmarks.weight_files import largest_weight_file, weight_file_bytes
from lm_offload import LLM, SamplingParams, Workload
from lm_offload.engine.outputs import SweepRecord

ROUNDS = 5
PROMPT_LEN = 8
READ_SWEEPS = 4


@dataclass(frozen=True)
class Case:
    """One batch size on one checkpoint."""

    model: Path
    batch: int
    gen_len: int
    threads: int


def main() -> None:
    """Measure all batch sizes and print one row each, then one JSON line."""
    parser = result_parser(__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--gen-len", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    bed = collect(largest_weight_file(args.model), args.threads)
    print("bound = max(bytes read / O_DIRECT rate, resident sweep); goal: at most 1.15 x bound")
    cases = (Case(args.model, batch, args.gen_len, args.threads) for batch in args.batches)
    report("streaming", map(measure, cases), args.json, show=format_row, bed=bed)


def measure(case: Case) -> Row:
    """Resident sweep, disk rate and streamed sweeps, in turn, `ROUNDS` times; medians."""
    rates = RateMeter(case.model, None, False, case.threads).read()
    resident_s, streamed_s, disk_rates, ratios = [], [], [], []
    read_bytes, retained_bytes = [], []
    half_bytes = weight_file_bytes(case.model) // 2
    with open_llm(case, None) as resident, open_llm(case, half_bytes) as streamed:
        weight_bytes, plan = streamed.files.weight_bytes, streamed.plan
        assert plan is not None
        for _ in range(ROUNDS):
            resident_s.append(sweep_s(decode_sweeps(resident, case)))
            disk_rates.append(disk_rate(streamed))
            sweeps = decode_sweeps(streamed, case)
            disk_rates.append(disk_rate(streamed))
            streamed_s.append(sweep_s(sweeps))
            read_bytes += [sweep.time.read_bytes for sweep in sweeps]
            retained_bytes.append(statistics.mean(sweep.retained_bytes for sweep in sweeps))
            unread_bytes = plan.streamed_bytes - retained_bytes[-1]
            read_s = unread_bytes / statistics.mean(disk_rates[-2:])
            ratios.append(streamed_s[-1] / max(read_s, resident_s[-1]))
        resident_bytes = dict(plan.memory)["resident weights"]
    table_bytes = streamed.files.table_layout.weight_bytes if streamed.files.table_layout else 0
    return {
        "batch": case.batch,
        "budget_bytes": plan.budget_bytes,
        "weight_bytes": weight_bytes,
        "resident_bytes": resident_bytes,
        "retained_bytes_per_sweep": round(statistics.mean(retained_bytes)),
        "row_gathered_bytes": table_bytes,
        "read_bytes_per_sweep": round(statistics.mean(read_bytes)),
        "expected_read_bytes": round(
            weight_bytes - resident_bytes - table_bytes - statistics.mean(retained_bytes)
        ),
        "disk_bytes_per_s": round(statistics.median(disk_rates)),
        "resident_sweep_s": statistics.median(resident_s),
        "streamed_sweep_s": statistics.median(streamed_s),
        "memory_read_bytes_per_s": round(rates.memory_read_bytes_per_s),
        "product_flops_per_s": round(rates.product_flops_per_s),
        "ratio_to_bound_runs": ratios,
        **with_interval("ratio_to_bound", ratios),
        "decode_tokens_per_s": case.batch / statistics.median(streamed_s),
        "decode_tokens_per_s_runs": [case.batch / sweep for sweep in streamed_s],
    }


def open_llm(case: Case, budget_bytes: int | None) -> LLM:
    """An engine loaded for the case."""
    llm = LLM(
        case.model, cpu_memory=budget_bytes, threads=case.threads, prefix_sharing=False,
        speculation="off",
    )  # fmt: skip
    llm.load(Workload((PROMPT_LEN,) * case.batch, (case.gen_len,) * case.batch))
    return llm


def decode_sweeps(llm: LLM, case: Case) -> list[SweepRecord]:
    """The decode sweeps of one run but the first, which follows the prefill."""
    prompts = make_prompts(case.model, case.batch, PROMPT_LEN, seed=0)
    llm.generate(prompts, SamplingParams(max_tokens=case.gen_len, ignore_eos=True))
    return list(llm.stats.decode)[1:]


def sweep_s(sweeps: list[SweepRecord]) -> float:
    """Mean seconds of a sweep: reads run ahead from one into the next, so single ones mislead."""
    return statistics.mean(sweep.time.total_s for sweep in sweeps)


def disk_rate(llm: LLM) -> float:
    """The disk's rate now: the reads of some sweeps as the engine issues them, nothing computed.

    A plain loop of reads over the same bytes, which reached only half of this on the test bed,
    would call a bound what is none.
    """
    times = [llm.read_sweep() for _ in range(READ_SWEEPS)]
    return sum(time.read_bytes for time in times) / sum(time.total_s for time in times)


def format_row(row: Row) -> str:
    """The figures of one batch size on one line."""
    return (
        f"batch {row['batch']:>3}: streamed {row['streamed_sweep_s'] * 1e3:7.1f} ms, resident "
        f"{row['resident_sweep_s'] * 1e3:7.1f} ms, disk {row['disk_bytes_per_s'] / 1e9:.2f} GB/s, "
        f"{row['ratio_to_bound']:.3f} x bound, read {row['read_bytes_per_sweep'] / 1e6:.0f} MB of "
        f"{row['expected_read_bytes'] / 1e6:.0f} MB not resident"
    )


if __name__ == "__main__":
    run(main)
