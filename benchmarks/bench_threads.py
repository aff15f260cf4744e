"""Every fixed setting of threads against the plan's choice, on workloads where tasks compete.

Decode sweeps of one engine with the KV cache taken as filled (its contents do not change times),
all settings in turns, so that a disturbance falls on all of them; readers need an engine each::

    python -m benchmarks.bench_threads --model .checkpoints/llama-1.1b --json out.json

A setting is threads of products and elementwise kernels, of attention, of torch, and readers.
torch's default is every core for each of the first three. The fastest sweep of each counts.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from array import array
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.testbed import describe
from lm_offload import LLM, SamplingParams, Workload
from lm_offload.demo import demo_path
from lm_offload.engine.engine import Engine
from lm_offload.engine.machinery import build_machinery
from lm_offload.hardware.limits import allowed_cores
from lm_offload.hardware.other_load import OtherLoad
from lm_offload.hardware.profile import thread_counts
from lm_offload.pipeline.trace import NullTrace
from lm_offload.plan import Plan, ThreadPlan
from lm_offload.sequence import Sequence

READERS = (1, 2, 4, 8)
TURNS = 400  # at most, of all settings
MOST_TOKENS = 1 << 12  # of a sequence beyond its context: sweeps of the longest measurement
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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--cases", nargs="+", help="names of those to measure")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each case")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = []
    for case in cases(args.model):
        if not args.cases or case.name in args.cases:
            rows.append(measure(case, args.seconds))
            print(format_row(rows[-1]), flush=True)
    result = {"benchmark": "threads", "testbed": describe(), "rows": rows}
    print(json.dumps(result))
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


def cases(model: Path) -> list[Case]:
    """Disk and attention and products together, each of them alone, and the smallest model."""
    return [
        Case("int4-streamed-long", model, "int4:64", 0.5, 4, 3000),
        Case("int4-resident-long", model, "int4:64", 2.0, 4, 3000),
        Case("int4-resident", model, "int4:64", 2.0, 4, 100),
        Case("bf16-streamed", model, None, 0.5, 1, 64),
        Case("bf16-resident-64", model, None, 2.0, 64, 64),
        Case("demo", demo_path(), None, 20.0, 1, 64),
    ]


def measure(case: Case, budget_s: float) -> Row:
    """The plan's choice, then every setting, of threads with its readers and the other way."""
    workload = Workload((case.context,) * case.batch, (128,) * case.batch)
    load = OtherLoad()
    with LLM(case.model, weight_format=case.weight_format) as llm:
        resident = llm.plan_for(workload)  # everything but weights and ring comes on top
        other_bytes = sum(size for name, size in resident.memory if name != "resident weights")
    budget_bytes = int(case.budget_frac * llm.files.weight_bytes) + other_bytes
    with LLM(case.model, weight_format=case.weight_format, cpu_memory=budget_bytes) as llm:
        plan = llm.plan_for(workload)
        llm.prepare(plan)
        readers = sorted({*READERS, plan.read_concurrency}) if plan.streamed else [0]
        share_s = budget_s / len(readers)
        found = [
            {**asdict(threads), "readers": count, "sweep_s": seconds}
            for count in readers
            for threads, seconds in sweeps(llm, plan, case, count, share_s).items()
        ]
    chosen = {**asdict(plan.threads), "readers": plan.read_concurrency if plan.streamed else 0}
    return {
        "case": case.name,
        "batch": case.batch,
        "context": case.context,
        "streamed_bytes": plan.streamed_bytes,
        "others_frac": load.busy_frac,
        "chosen": chosen,
        "settings": sorted(found, key=lambda setting: setting["sweep_s"]),
    }


def settings(cores: int) -> Iterator[ThreadPlan]:
    """Every number of threads of products and attention, torch on one or on all."""
    counts = thread_counts(cores)
    for compute, attention in itertools.product(counts, repeat=2):
        for sampling in sorted({1, cores}):
            yield ThreadPlan(compute, attention, sampling)


def sweeps(
    llm: LLM, plan: Plan, case: Case, readers: int, budget_s: float
) -> dict[ThreadPlan, float]:
    """Seconds of the fastest sweep of each setting, on one engine with so many readers."""
    machinery = build_machinery(
        llm.files, replace(plan, read_concurrency=readers), llm.kernels, NullTrace(), True, _quiet
    )
    engine = Engine(machinery, (), lambda sequence, token: False)
    fastest = dict.fromkeys(settings(allowed_cores()), float("inf"))
    end_s = time.perf_counter() + budget_s
    try:
        for _ in range(TURNS):
            for threads in fastest:
                engine.machinery.runner.use(llm.kernels, threads)
                fastest[threads] = min(fastest[threads], decode_s(engine, case))
            if time.perf_counter() > end_s:
                break
    finally:
        machinery.close()
    return fastest


def _quiet(done_bytes: int, total_bytes: int) -> None:
    """Progress of loading that nobody wants to see."""
