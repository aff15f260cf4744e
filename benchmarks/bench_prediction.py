"""Predicted rates against measured ones, over models, formats, budgets, batches and prompts.

Profile the machine first (`lm-offload profile`): the points are no part of that calibration. A
shared machine changes its pace by tens of per cent within seconds, so each point is run several
times in turns with slices of the pace of memory, cores and disk (`benchmarks/paced_runs.py`), and
it is predicted from the profile at the median pace of the slices around and within its runs, of
each phase apart. The plan is the one of the pace before the point; what is predicted depends on no
time of a run. A run whose slices on both sides differ by half is kept in the result, but counts
only where no other did better; whether one counts depends on no error either. Of a point counts the
predicted rate over the median of those measured, prefill and decode apart.

A point takes some 10 s, 64 about twelve minutes. It is written as soon as it is measured, points
come in an order in which every axis is spread from the start, and a run that is started again goes
on::

    python -m benchmarks.bench_prediction --minutes 12 --json benchmarks/results/prediction.json
    python -m benchmarks.report    # draws them
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.entry import result_parser, run
from benchmarks.machine_pace import Pace, at_pace
from benchmarks.pace_meter import PaceMeter
from benchmarks.paced_runs import PHASES, paced_runs
from benchmarks.part_file import write_whole
from benchmarks.prediction_grid import FORMATS, Point, chosen, grid, open_point
from benchmarks.prediction_row import compared, plan_row, run_row, slices_of, step_row
from benchmarks.prediction_summary import format_row, print_summary, summary
from benchmarks.result import result_of
from benchmarks.slicing_executor import side_of
from benchmarks.weight_files import largest_weight_file
from lm_offload import LLM, Workload
from lm_offload.demo import demo_path
from lm_offload.engine.cut_files import in_units_of
from lm_offload.engine.planning import planning_request
from lm_offload.engine.profile_choice import GIVEN_PROFILE
from lm_offload.hardware.other_load import OtherLoad
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.hardware.profile_text import profile_to_dict
from lm_offload.plan import Figures, Plan
from lm_offload.planner.choose.predictor import Predictor
from lm_offload.planner.decided.fixed_plan import candidate_of_plan
from lm_offload.quant.format import Format, parse_format
from lm_offload.storage.gather_size import PIECE_BYTES

SEED = 0
Row = dict[str, Any]


def main() -> None:
    """Measure until the points or the minutes are used up; print a line each, then a summary."""
    parser = result_parser(__doc__)
    parser.add_argument("--model", type=Path, default=Path(".checkpoints/llama-1.1b"))
    parser.add_argument("--points", type=int, default=64, help="of the grid, spread over all axes")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--minutes", type=float, default=12.0)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    models = {"demo": demo_path()}
    if args.model.is_dir():
        models[args.model.name] = args.model
    rows = load_rows(args.json)
    start_s, base = time.monotonic(), LLM(demo_path()).profile
    files = map(largest_weight_file, models.values())
    largest = max(files, key=lambda file: file.stat().st_size)
    meter = PaceMeter(base, args.threads, largest, map(stored_as, FORMATS))
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
    """Plan at the machine's pace, run one point several times, predict each run at its own pace."""
    row: Row = {"key": point.key, **asdict(point)}
    weight_format = stored_as(point.weight_format)
    take_slice = partial(meter.slice, weight_format)
    now = meter.pace(weight_format, side_of(take_slice))
    use_profile(at_pace(base, now))
    opened = open_point(folder, point, threads)
    if opened is None:
        return {**row, "skipped": "no plan fits the budget"}
    llm, workload = opened
    with llm:
        plan, load = llm.plan_for(workload), OtherLoad()
        llm.prepare(plan)
        meter.read_from(llm.files.largest_file, read_bytes(llm, plan))
        runs = list(paced_runs(llm, plan, workload, take_slice))
        paces = {phase: meter.pace(weight_format, slices_of(runs, phase)) for phase in PHASES}
        predicted = {phase: predict(llm, plan, workload, base, paces[phase]) for phase in PHASES}
    return {
        **row,
        "gen_len": workload.output_lens[0],
        "others_frac": load.busy_frac,
        "plan": plan_row(plan),
        **compared(predicted, runs),
        "paces": {phase: asdict(pace) for phase, pace in paces.items()},
        "predicted_step_s": {phase: step_row(predicted[phase].step_s[phase]) for phase in PHASES},
        "runs": [run_row(one) for one in runs],
    }


def read_bytes(llm: LLM, plan: Plan) -> int:
    """The largest piece that a plan has read at once: a streamed unit, or rows of the embedding."""
    files = in_units_of(plan, llm.files)
    sizes = zip(files.units, files.layouts, strict=True)
    streamed = (layout.size_bytes for unit, layout in sizes if unit.name in plan.streamed)
    return max(streamed, default=PIECE_BYTES)


def predict(llm: LLM, plan: Plan, workload: Workload, base: HardwareProfile, pace: Pace) -> Figures:
    """What a plan that was made at one pace should show at another."""
    request = planning_request(llm.choices, workload, at_pace(base, pace), llm.budget_bytes)
    return Predictor(request).timed(candidate_of_plan(request, plan)).plan.predicted


def stored_as(weight_format: str) -> Format:
    """The format of a point; both models come in bf16."""
    return parse_format("bf16" if weight_format == "own" else weight_format)


def use_profile(profile: HardwareProfile) -> None:
    """Have engines that are opened from now on plan from it."""
    file = Path(tempfile.gettempdir()) / f"lm-offload-pace-{os.getpid()}.json"
    file.write_text(json.dumps(profile_to_dict(profile)))
    os.environ[GIVEN_PROFILE] = str(file)


def load_rows(file: Path | None) -> dict[str, Row]:
    """The points that an earlier run has measured in this way."""
    if file is None or not file.exists():
        return {}
    rows = json.loads(file.read_text())["rows"]
    return {row["key"]: row for row in rows if "paces" in row or "skipped" in row}


def save(file: Path | None, rows: Iterable[Row]) -> None:
    """All points so far with their summary, beside the file and then in its place."""
    if file is None:
        return
    rows = list(rows)
    write_whole(file, result_of("prediction", rows, summary=summary(rows)))


if __name__ == "__main__":
    run(main)
