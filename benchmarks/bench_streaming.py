"""Streaming against its bound: how close a sweep comes to the larger of disk and compute.

With half of the checkpoint as budget, a decode sweep cannot be shorter than reading what is neither
resident nor retained in unused KV memory at the disk's own `O_DIRECT` rate (the engine's reads with
nothing computed), nor shorter than the same sweep fully resident. Both are measured here,
interleaved with the streamed sweeps, because a shared disk changes by the minute. Where it was at
work all the time and the ratio is above 1, it was slower than when it was measured::

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
from lm_offload.plan import Plan

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


@dataclass(frozen=True)
class Round:
    """A resident sweep, streamed ones, and what the disk did before and after these."""

    resident_s: float
    streamed_s: float
    disk_rates: tuple[float, float]
    disk_busy_frac: float  # of the streamed sweeps, with at least one block in flight
    read_bytes: float
    retained_bytes: float
    ratio: float  # of the streamed sweep to its bound


def measure(case: Case) -> Row:
    """Resident sweep, disk rate and streamed sweeps, in turn, `ROUNDS` times; medians."""
    rates = RateMeter(case.model, None, False, case.threads).read()
    half_bytes = weight_file_bytes(case.model) // 2
    with open_llm(case, None) as resident, open_llm(case, half_bytes) as streamed:
        rounds = [measure_round(case, resident, streamed) for _ in range(ROUNDS)]
        return {
            "batch": case.batch,
            **bytes_row(streamed, rounds),
            **times_row(case, rounds),
            "memory_read_bytes_per_s": round(rates.memory_read_bytes_per_s),
            "product_flops_per_s": round(rates.product_flops_per_s),
        }


def measure_round(case: Case, resident: LLM, streamed: LLM) -> Round:
    """One of each, the disk's rate on both sides of the streamed sweeps."""
    resident_s = sweep_s(decode_sweeps(resident, case))
    before = disk_rate(streamed)
    sweeps = decode_sweeps(streamed, case)
    disk_rates = (before, disk_rate(streamed))
    retained_bytes = statistics.mean(sweep.retained_bytes for sweep in sweeps)
    unread_bytes = plan_of(streamed).streamed_bytes - retained_bytes
    read_s = unread_bytes / statistics.mean(disk_rates)
    return Round(
        resident_s=resident_s,
        streamed_s=sweep_s(sweeps),
        disk_rates=disk_rates,
        disk_busy_frac=statistics.mean(sweep.time.disk_read_s for sweep in sweeps)
        / sweep_s(sweeps),
        read_bytes=statistics.mean(sweep.time.read_bytes for sweep in sweeps),
        retained_bytes=retained_bytes,
        ratio=sweep_s(sweeps) / max(read_s, resident_s),
    )


def plan_of(llm: LLM) -> Plan:
    """The plan of an engine that is loaded."""
    assert llm.plan is not None
    return llm.plan


def bytes_row(llm: LLM, rounds: list[Round]) -> Row:
    """What is resident, what is read in each sweep, and what should be."""
    layout, plan = llm.files.table_layout, plan_of(llm)
    table_bytes = layout.weight_bytes if layout else 0
    resident_bytes = dict(plan.memory)["resident weights"]
    retained_bytes = statistics.mean(each.retained_bytes for each in rounds)
    unread_bytes = llm.files.weight_bytes - resident_bytes - table_bytes - retained_bytes
    return {
        "budget_bytes": plan.budget_bytes,
        "weight_bytes": llm.files.weight_bytes,
        "resident_bytes": resident_bytes,
        "retained_bytes_per_sweep": round(retained_bytes),
        "row_gathered_bytes": table_bytes,
        "read_bytes_per_sweep": round(statistics.mean(each.read_bytes for each in rounds)),
        "expected_read_bytes": round(unread_bytes),
    }


def times_row(case: Case, rounds: list[Round]) -> Row:
    """Medians of sweeps and of the disk, and how far the streamed ones are from their bound."""
    streamed_s = [each.streamed_s for each in rounds]
    ratios = [each.ratio for each in rounds]
    return {
        "disk_bytes_per_s": round(
            statistics.median(rate for each in rounds for rate in each.disk_rates)
        ),
        "disk_busy_frac": statistics.median(each.disk_busy_frac for each in rounds),
        "resident_sweep_s": statistics.median(each.resident_s for each in rounds),
        "streamed_sweep_s": statistics.median(streamed_s),
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
        f"{row['resident_sweep_s'] * 1e3:7.1f} ms, disk {row['disk_bytes_per_s'] / 1e9:.2f} GB/s "
        f"and at work {row['disk_busy_frac']:.0%}, {row['ratio_to_bound']:.3f} x bound, read "
        f"{row['read_bytes_per_sweep'] / 1e6:.0f} MB of "
        f"{row['expected_read_bytes'] / 1e6:.0f} MB not resident"
    )


if __name__ == "__main__":
    run(main)
