"""Decode over a KV cache of twice its memory budget: how close it comes to disk or compute.

The cache is filled with made-up keys and values and decode sweeps alone are measured, first with
all of it in memory, then with about every other layer on disk. A sweep cannot be shorter than
reading the disk's part with nothing computed, nor than the same sweep resident::

    python -m benchmarks.bench_long_context --model .checkpoints/llama-1.1b --json out.json
"""

from __future__ import annotations

import argparse
import random
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.entry import result_parser, run
from benchmarks.half_on_disk import Case, base_choice, half_on_disk
from benchmarks.result import report
from benchmarks.round_ratio import with_interval
from benchmarks.synthetic_cache import fill
from benchmarks.testbed import collect
from benchmarks.weight_files import largest_weight_file
from lm_offload import LLM, SamplingParams
from lm_offload.engine.cpu_machinery import build_cpu_machinery
from lm_offload.engine.cut_files import in_units_of
from lm_offload.engine.engine import Engine
from lm_offload.engine.machinery import Machinery
from lm_offload.errors import ConfigError
from lm_offload.pipeline.trace import ChromeTrace, NullTrace
from lm_offload.plan import Plan
from lm_offload.planner.decided.fixed_plan import fixed_plan
from lm_offload.planner.decided.plan_choice import PlanChoice
from lm_offload.quant.kv_format import BLOCK_TOKENS
from lm_offload.sequence import Sequence
from lm_offload.step_time import StepTime

READ_SWEEPS = 3
ENOUGH = "95%"  # a budget in which everything is resident; only what is planned is taken


@dataclass(frozen=True)
class Run:
    """Decode sweeps of one plan; the first is left out of the times."""

    plan: Plan
    tokens: list[list[int]]
    steps: list[StepTime]
    disk_bytes_per_s: float  # of reads with nothing computed; 0 where there are none

    @property
    def sweep_s(self) -> float:
        """The median sweep."""
        return statistics.median(step.total_s for step in self.steps)


def main() -> None:
    """Measure resident and spilled, print both and the bound, then one JSON line."""
    args = _arguments()
    if args.context % BLOCK_TOKENS:
        raise ConfigError(f"--context is {args.context}; give a multiple of {BLOCK_TOKENS}.")
    case = Case(
        *(args.model, args.batch, args.context, args.sweeps, args.kv_format),
        *(args.groups, args.depth),
    )
    options: dict[str, Any] = {
        "threads": args.threads,
        "kv_format": case.kv_format,
        "speculation": "off",
    }
    with LLM(case.model, cpu_memory=ENOUGH, **options) as llm:
        base = base_choice(llm, case)
        print("bound = max(KV bytes / disk rate, resident sweep); goal: at least 80 % of it")
        resident = measure(llm, case, base, None)
        spilled = measure(llm, case, half_on_disk(llm, case, base), args.trace)
    bed = collect(largest_weight_file(case.model), args.threads)
    row = row_of(case, resident, spilled)
    report("long-context", [row], args.json, show=format_row, bed=bed)


def _arguments() -> argparse.Namespace:
    parser = result_parser(__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--context", type=int, default=4096)
    parser.add_argument("--sweeps", type=int, default=7)
    parser.add_argument("--kv-format")
    parser.add_argument("--groups", type=int, default=1, help="that a layer is read in")
    parser.add_argument("--depth", type=int, default=2, help="groups that the ring holds at least")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--trace", type=Path)
    return parser.parse_args()


def measure(llm: LLM, case: Case, choice: PlanChoice, trace_file: Path | None) -> Run:
    """Build an engine for the plan, fill its cache, decode."""
    plan = fixed_plan(llm._request(case.workload), choice)
    units = in_units_of(plan, llm.files).units
    trace = ChromeTrace([unit.name for unit in units]) if trace_file else NullTrace()
    parts = build_cpu_machinery(llm.files, plan, llm.kernels, trace, True, lambda *_: None)
    try:
        fill(parts, llm.files.config, llm.files.kv_format, llm.kernels)
        sequences = _sequences(case, llm.files.config.vocab_size)
        engine = Engine(parts, (), lambda sequence, token: False)
        engine.add(sequences)
        engine.step()
        rate = _disk_bytes_per_s(parts)
        while engine.has_work:
            engine.step()
        steps = [record.time for record in engine.records[1:]]
    finally:
        parts.close()
    if isinstance(trace, ChromeTrace) and trace_file:
        trace.write(trace_file)
    return Run(plan, [sequence.output for sequence in sequences], steps, rate)


def _sequences(case: Case, vocab_size: int) -> list[Sequence]:
    """Prompts of which all but the last token count as computed."""
    draw = random.Random(0)
    params = SamplingParams(max_tokens=case.sweeps + 1, ignore_eos=True)
    return [
        Sequence(
            index,
            [draw.randrange(vocab_size) for _ in range(case.context + 1)],
            params,
            num_computed=case.context,
        )
        for index in range(case.batch)
    ]


def _disk_bytes_per_s(parts: Machinery) -> float:
    """The rate of a sweep's KV reads with nothing computed."""
    if parts.staged is None:
        return 0.0
    batch = parts.scheduler.schedule()
    rates = []
    for _ in range(READ_SWEEPS):
        groups = parts.staged.begin(batch, None)
        counts = parts.runner.task_counts(1)
        for unit, staged in groups.items():
            counts[unit] = sum(group.computes for group in staged)
        step = parts.executor.run_sweep(counts, lambda task: None, groups)
        rates.append(step.kv_read_bytes / step.total_s)
    return max(rates)


def row_of(case: Case, resident: Run, spilled: Run) -> dict[str, object]:
    """What was measured, and against what."""
    both = {"resident_sweep_s_runs": resident, "spilled_sweep_s_runs": spilled}
    kv_read_bytes = statistics.median(step.kv_read_bytes for step in spilled.steps)
    bound_s = max(kv_read_bytes / spilled.disk_bytes_per_s, resident.sweep_s)
    runs_s = {name: [step.total_s for step in run.steps] for name, run in both.items()}
    memory = dict(spilled.plan.memory)
    return {
        "model": case.model.name,
        "batch": case.batch,
        "context": case.context,
        "kv_format": spilled.plan.kv_format,
        "kv_bytes": dict(resident.plan.memory)["KV cache"],
        "kv_memory_bytes": memory["KV cache"] + memory["KV staging"],
        "layers_on_disk": len(spilled.plan.spill.layers),
        "kv_read_bytes": kv_read_bytes,
        "disk_bytes_per_s": spilled.disk_bytes_per_s,
        "resident_sweep_s": resident.sweep_s,
        "spilled_sweep_s": spilled.sweep_s,
        "predicted_sweep_s": spilled.plan.predicted.step_s["decode"].total_s,
        **with_interval("bound_frac", [bound_s / step.total_s for step in spilled.steps]),
        **runs_s,
        "same_tokens": resident.tokens == spilled.tokens,
        "cpu_s": statistics.median(step.cpu_s for step in spilled.steps),
        "wait_s": statistics.median(step.wait_s for step in spilled.steps),
    }


def format_row(row: dict[str, object]) -> str:
    """One line for people."""
    return " ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in row.items()
        if not isinstance(value, list | tuple)
    )


if __name__ == "__main__":
    run(main)
