"""Every fixed setting of threads against the plan's choice, on workloads where tasks compete.

Decode sweeps of one engine with the KV cache taken as filled (its contents do not change times),
settings of threads in turns, so that a disturbance falls on all of them; numbers of readers need an
engine each and follow one another. The fastest of many noisy settings looks better than it is, so
the plan's choice then takes turns with it, and with torch's default, for the ratios that count::

    python -m benchmarks.bench_threads --model .checkpoints/llama-1.1b --json out.json

A setting is threads of products and elementwise kernels, of attention, of torch, and readers.
torch's default is every core for each of the first three. The fastest sweep of each is listed.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.entry import result_parser, run
from benchmarks.result import report
from benchmarks.round_ratio import quotients, with_bounds, with_interval
from benchmarks.switched_threads import GEN_LEN, SwitchedEngine
from lm_offload import LLM, Workload
from lm_offload.demo import demo_path
from lm_offload.hardware.limits import allowed_cores
from lm_offload.hardware.measured_work import thread_counts
from lm_offload.hardware.other_load import OtherLoad
from lm_offload.plan import Plan, ThreadPlan

READERS = (1, 2, 4, 8)
SWEPT_FRAC = 0.6  # of a case's seconds; the rest is for turns with the fastest and the default
MIN_DUEL_ROUNDS = 4
GOAL = 1.03
Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One workload: `budget_frac` is of the weights in their format, the KV cache comes on top."""

    name: str
    model: Path
    weight_format: str | None
    budget_frac: float
    batch: int
    context: int


def main() -> None:
    """Measure all cases; a line for each setting, then one JSON line."""
    parser = result_parser(__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--cases", nargs="+", help="names of those to measure")
    parser.add_argument("--seconds", type=float, default=40.0, help="of each case")
    args = parser.parse_args()
    wanted = (case for case in cases(args.model) if not args.cases or case.name in args.cases)
    measured = (measure(case, args.seconds) for case in wanted)
    report("threads", measured, args.json, show=format_row)


def cases(model: Path) -> list[Case]:
    """Disk and attention and products together, each of them alone, and the smallest model."""
    return [
        Case("int4-streamed-long", model, "int4:64", 0.5, 4, 3000),
        Case("int4-resident-long", model, "int4:64", 2.0, 4, 3000),
        Case("int4-resident", model, "int4:64", 2.0, 4, 100),
        Case("bf16-streamed", model, None, 0.8, 1, 64),
        Case("bf16-resident-64", model, None, 2.0, 64, 64),
        Case("demo", demo_path(), None, 20.0, 1, 64),
    ]


def measure(case: Case, budget_s: float) -> Row:
    """The plan's choice, then every setting, of threads with its readers and the other way."""
    load, budget_bytes = OtherLoad(), memory_of(case)
    with LLM(case.model, weight_format=case.weight_format, cpu_memory=budget_bytes) as llm:
        plan = llm.plan_for(workload_of(case))
        llm.prepare(plan)
        found = all_settings(llm, plan, case, SWEPT_FRAC * budget_s)
        chosen, default = (
            {**asdict(threads), "readers": plan.read_concurrency}
            for threads in (plan.threads, ThreadPlan.on(allowed_cores()))
        )
        rest_s = (1 - SWEPT_FRAC) * budget_s / 2
        losses = duel(llm, plan, case, setting_of(found[0]), chosen, rest_s)
        gains = duel(llm, plan, case, chosen, default, rest_s)
    return {
        "case": case.name,
        "batch": case.batch,
        "context": case.context,
        "streamed_bytes": plan.streamed_bytes,
        "others_frac": load.busy_frac,
        "rounds": min(len(losses), len(gains)),
        "chosen": chosen,
        "default": default,
        **with_interval("loss", losses),
        **with_interval("speedup_over_default", gains),
        "settings": found,
    }


def workload_of(case: Case) -> Workload:
    """Prompts that fill the context."""
    return Workload((case.context,) * case.batch, (GEN_LEN,) * case.batch)


def memory_of(case: Case) -> int:
    """The case's part of the weights, and on top all but weights and ring of a resident plan."""
    with LLM(case.model, weight_format=case.weight_format) as llm:
        memory = llm.plan_for(workload_of(case)).memory
        other_bytes = sum(size for name, size in memory if name != "resident weights")
        return int(case.budget_frac * llm.files.weight_bytes) + other_bytes


def all_settings(llm: LLM, plan: Plan, case: Case, budget_s: float) -> list[Row]:
    """Every setting with the seconds of its fastest sweep, the fastest setting first."""
    readers = {*READERS, plan.read_concurrency} if plan.streamed else {plan.read_concurrency}
    found = [
        {**asdict(threads), "readers": count, "sweep_s": seconds}
        for count in sorted(readers)
        for threads, seconds in sweeps(llm, plan, case, count, budget_s / len(readers)).items()
    ]
    return sorted(found, key=lambda setting: setting["sweep_s"])


def duel(llm: LLM, plan: Plan, case: Case, one: Row, other: Row, budget_s: float) -> list[float]:
    """Seconds of the other setting over those of the first, in turns; 1 where they are the same."""
    if one == other:
        return [1.0] * MIN_DUEL_ROUNDS
    with ExitStack() as stack:
        engines = {
            count: stack.enter_context(SwitchedEngine(llm, plan, count, case.batch, case.context))
            for count in {one["readers"], other["readers"]}
        }
        works = {
            name: partial(engines[each["readers"]].sweep_s, threads_of(each))
            for name, each in (("one", one), ("other", other))
        }
        times: dict[str, list[float]] = {name: [] for name in works}
        end_s = time.perf_counter() + budget_s
        while len(times["one"]) < MIN_DUEL_ROUNDS or time.perf_counter() < end_s:
            for name in list(works) if len(times["one"]) % 2 else list(works)[::-1]:
                times[name].append(works[name]())
    return quotients(times["other"], times["one"])


def threads_of(setting: Row) -> ThreadPlan:
    """A setting without its readers."""
    return ThreadPlan(setting["compute"], setting["attention"], setting["sampling"])


def settings(cores: int) -> Iterator[ThreadPlan]:
    """Every number of threads of products and attention, torch on one or on all."""
    counts = thread_counts(cores)
    for compute, attention in itertools.product(counts, repeat=2):
        for sampling in sorted({1, cores}):
            yield ThreadPlan(compute, attention, sampling)


def sweeps(
    llm: LLM, plan: Plan, case: Case, readers: int, budget_s: float
) -> dict[ThreadPlan, float]:
    """Seconds of the fastest sweeps of each setting, on one engine with so many readers."""
    fastest = dict.fromkeys(settings(allowed_cores()), float("inf"))
    end_s = time.perf_counter() + budget_s
    with SwitchedEngine(llm, plan, readers, case.batch, case.context) as engine:
        while time.perf_counter() < end_s or float("inf") in fastest.values():
            for threads in fastest:
                fastest[threads] = min(fastest[threads], engine.sweep_s(threads))
    return fastest


def format_row(row: Row) -> str:
    """Every setting of a case, the chosen one marked, and what it loses and gains."""
    lines = [f"{row['case']}: batch {row['batch']}, context {row['context']}"]
    for setting in row["settings"]:
        mark = " <- chosen" if setting_of(setting) == row["chosen"] else ""
        numbers = "  ".join(f"{name} {value}" for name, value in setting_of(setting).items())
        lines.append(f"  {setting['sweep_s'] * 1e3:8.2f} ms  {numbers}{mark}")
    lines.append(
        f"  chosen {with_bounds(row, 'loss', '.3f')}x the time of the best (goal {GOAL}), "
        f"{with_bounds(row, 'speedup_over_default', '.2f')}x as fast as torch's default, "
        f"{row['others_frac']:.0%} of the cores busy for others"
    )
    return "\n".join(lines)


def setting_of(row: Row) -> Row:
    """A setting without its time."""
    return {name: value for name, value in row.items() if name != "sweep_s"}


if __name__ == "__main__":
    run(main)
