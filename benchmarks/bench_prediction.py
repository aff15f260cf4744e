"""Predicted rates against measured ones, over models, formats, budgets, batches and prompts.

Profile the machine first (`lm-offload profile`): the points are no part of that calibration. As
shared machines drift within minutes, predictions are made from that profile at the pace that
memory, cores and disk have right before the point, by readings of a tenth of a second. A point
takes some 10 to 20 s, all 64 about a quarter of an hour; each is written as soon as it is measured,
and a run that is started again goes on::

    python -m benchmarks.bench_prediction --json benchmarks/results/prediction.json
    python -m benchmarks.report    # draws them
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.machine_pace import Pace, PaceMeter, at_pace, is_steady
from benchmarks.part_file import write_whole
from benchmarks.prediction_grid import Point, chosen, grid, open_point
from benchmarks.testbed import describe
from lm_offload import LLM, Workload
from lm_offload.cli.measure import Measured, Shape, run_workload, warm_up
from lm_offload.cli.memory_mark import mark_memory
from lm_offload.demo import demo_path
from lm_offload.engine.profile_choice import GIVEN_PROFILE
from lm_offload.hardware.other_load import OtherLoad
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.hardware.profile_text import profile_to_dict
from lm_offload.plan import Plan

PHASES = ("prefill", "decode")
SHORT_RUN_S = 4.0  # a run that is predicted to be shorter is repeated
RUNS = (3, 12)  # of a short run, the first to warm up: at least, and at most as many as fit
RUNS_S = 3.0  # into these seconds
SEED = 0
QUIET_FRAC = 0.05  # of the cores at work for others, up to which a point counts as quiet
Row = dict[str, Any]


def main() -> None:
    """Measure until the points or the minutes are used up; print a line each, then a summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path(".checkpoints/llama-1.1b"))
    parser.add_argument("--points", type=int, default=64, help="of the grid, spread over all axes")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    models = {"demo": demo_path()}
    if args.model.is_dir():
        models[args.model.name] = args.model
    rows = load_rows(args.json)
    start_s, base = time.monotonic(), LLM(demo_path()).profile
    files = [file for folder in models.values() for file in folder.glob("*.safetensors")]
    meter = PaceMeter(args.threads, max(files, key=lambda file: file.stat().st_size))
    wanted = [it for it in chosen(grid(models), args.points, args.seed) if it.key not in rows]
    for done, point in enumerate(wanted):
        spent_s = time.monotonic() - start_s
        if spent_s > 60 * args.minutes:
            print(f"{args.minutes:g} minutes are used up; start again for what is left")
            break
        if done:
            print(time_left(done, len(wanted), spent_s))
        rows[point.key] = measure(models[point.model], point, args.threads, base, meter)
        print(format_row(rows[point.key]), flush=True)
        save(args.json, rows.values())
    print_summary(summary(rows.values()))


def time_left(done: int, wanted: int, spent_s: float) -> str:
    """How long the rest takes at the pace so far."""
    left_s = spent_s / done * (wanted - done)
    return f"{done} of {wanted} points, about {left_s / 60:.0f} min left"


def measure(
    folder: Path, point: Point, threads: int, base: HardwareProfile, meter: PaceMeter
) -> Row:
    """Plan and predict at the machine's pace, and run one point."""
    row: Row = {"key": point.key, **asdict(point)}
    before = meter.read(base)
    use_profile(at_pace(base, before))
    opened = open_point(folder, point, threads)
    if opened is None:
        return {**row, "skipped": "no plan fits the budget"}
    llm, workload = opened
    with llm:
        plan = llm.plan_for(workload)
        llm.prepare(plan)
        load = OtherLoad()
        measured = run(llm, plan, workload)
        paces = before, meter.read(base)
    return {
        **row,
        "gen_len": workload.output_lens[0],
        "others_frac": load.busy_frac,
        "paces": [asdict(pace) for pace in paces],
        "plan": plan_row(plan),
        "predicted": asdict(plan.predicted),
        "measured": asdict(measured),
    }


def use_profile(profile: HardwareProfile) -> None:
    """Have engines that are opened from now on plan from it."""
    file = Path(tempfile.gettempdir()) / f"lm-offload-pace-{os.getpid()}.json"
    file.write_text(json.dumps(profile_to_dict(profile)))
    os.environ[GIVEN_PROFILE] = str(file)


def run(llm: LLM, plan: Plan, workload: Workload) -> Measured:
    """The median of some runs after the first, by seconds of all sweeps; of a long one the first.

    What a first run touches for the first time is no part of the prediction.
    """
    memory = mark_memory()
    llm.load(workload)
    shape = Shape(len(workload.prompt_lens), workload.prompt_lens[0], workload.output_lens[0])
    warm_up(llm)
    runs = [
        run_workload(llm, shape, SEED, memory, lambda sweep: None)
        for _ in range(runs_of(plan.predicted.run_s))
    ]
    ranked = sorted(runs[1:] or runs, key=lambda measured: measured.run_s)
    return ranked[len(ranked) // 2]


def runs_of(run_s: float) -> int:
    """How often a run of so many seconds is measured."""
    least, most = RUNS
    return min(max(least, round(RUNS_S / run_s)), most) if run_s < SHORT_RUN_S else 1


def plan_row(plan: Plan) -> Row:
    """What of a plan matters to its speed."""
    names = ("max_sequences", "sweep_tokens", "micro_batch_tokens", "ring_bytes", "streamed_bytes")
    return {"budget_bytes": plan.budget_bytes, **{name: getattr(plan, name) for name in names}}


def errors(row: Row) -> dict[str, float]:
    """Predicted over measured rate less 1, for each phase."""
    rates = {phase: f"{phase}_tokens_per_s" for phase in PHASES}
    return {
        phase: row["predicted"][rate] / row["measured"][rate] - 1
        for phase, rate in rates.items()
        if "measured" in row and row["measured"][rate]
    }


def summary(rows: Iterable[Row]) -> dict[str, dict[str, float]]:
    """Median and 90th percentile of the absolute errors: all, steady, by model and by format."""
    measured = [row for row in rows if "measured" in row]
    steady = [row for row in measured if is_undisturbed(row)]
    groups = {"all": measured, "steady": steady}
    for axis in ("model", "weight_format"):
        for value in sorted({row[axis] for row in measured}):
            groups[f"{axis} {value}"] = [row for row in measured if row[axis] == value]
    return {
        f"{name}, {phase}": statistics_of([errors(row)[phase] for row in members])
        for name, members in groups.items()
        for phase in PHASES
        if members
    }


def is_undisturbed(row: Row) -> bool:
    """Whether nobody else worked, and the machine was as fast after the point as before it."""
    paces = (Pace(**pace) for pace in row["paces"])
    return row["others_frac"] <= QUIET_FRAC and is_steady(*paces)


def statistics_of(signed: list[float]) -> dict[str, float]:
    """Of one phase; `bias` is the median with its sign: above zero is predicted too fast."""
    sizes = sorted(abs(error) for error in signed)
    return {
        "points": len(sizes),
        "median": statistics.median(sizes),
        "p90": sizes[min(int(0.9 * len(sizes)), len(sizes) - 1)],
        "bias": statistics.median(signed),
    }


def load_rows(file: Path | None) -> dict[str, Row]:
    """The points that an earlier run has measured."""
    if file is None or not file.exists():
        return {}
    return {row["key"]: row for row in json.loads(file.read_text())["rows"]}


def save(file: Path | None, rows: Iterable[Row]) -> None:
    """All points so far with their summary, beside the file and then in its place."""
    if file is None:
        return
    rows = list(rows)
    result = {
        "benchmark": "prediction",
        "testbed": describe(),
        "summary": summary(rows),
        "rows": rows,
    }
    write_whole(file, result)


def format_row(row: Row) -> str:
    """The figures of one point on one line."""
    if "skipped" in row:
        return f"{row['key']:<40} {row['skipped']}"
    paces = " ".join(f"{pace:.2f}" for reading in row["paces"] for pace in reading.values())
    parts = [f"{row['key']:<40}", f"others {row['others_frac']:4.0%}, pace {paces}"]
    for phase, error in errors(row).items():
        rate = row["measured"][f"{phase}_tokens_per_s"]
        parts.append(f"{phase} {rate:9.2f} tok/s, predicted {error:+.1%}")
    return "  ".join(parts)


def print_summary(groups: dict[str, dict[str, float]]) -> None:
    """A line for each group; the goal is a median of 7 % and 15 % for nine in ten."""
    print("goal: median 7 %, 90th percentile 15 %")
    for name, found in groups.items():
        print(
            f"{name:<28}{found['points']:>4} points: median {found['median']:.1%}, 90th percentile "
            f"{found['p90']:.1%}, bias {found['bias']:+.1%}"
        )


if __name__ == "__main__":
    main()
