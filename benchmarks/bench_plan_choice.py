"""The plan that is chosen against the best of many that are run: how much is lost by predicting.

For each case every plan that fits is estimated, some are run, each distinct one once, spread over
the whole range of estimates, and the chosen one among them. The fastest of many noisy runs looks
better than it is, so the chosen plan and the fastest one then take turns, and what counts is the
median of these ratios. A run that is started again goes on with the cases that are left::

    python -m benchmarks.bench_plan_choice --json benchmarks/results/plan-choice.json
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.part_file import write_whole
from benchmarks.round_ratio import with_interval
from benchmarks.testbed import describe
from lm_offload import LLM
from lm_offload.cli.measure import Shape
from lm_offload.cli.progress import RunProgress
from lm_offload.cli.verify import run_plan
from lm_offload.demo import demo_path
from lm_offload.engine.planning import planning_request
from lm_offload.hardware.other_load import OtherLoad
from lm_offload.plan import Plan
from lm_offload.planner.plan_text import choice_of
from lm_offload.planner.predictor import Predictor
from lm_offload.planner.ranking import ranking_of
from lm_offload.planner.request import Request
from lm_offload.planner.search import candidates, make_plan

BUDGET_FRACS = (0.25, 0.5, 1.2)  # of the checkpoint's bytes
SHAPES = (Shape(1, 64, 9), Shape(8, 48, 9), Shape(32, 16, 9))
PLANS = 12  # that are run, beside the chosen one
DUELS = 3  # rounds of the chosen plan and the fastest one
HOPELESS = 4.0  # plans estimated to take longer by this factor are not run
GOAL, LEAST = 1 / 0.95, 1 / 0.8  # in nine of ten cases, and always
Row = dict[str, Any]
Run = Callable[[], tuple[float, float]]  # predicted and measured seconds of a plan


def main() -> None:
    """Run all cases or as many as the minutes allow; a line each, then how often the goal holds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path(".checkpoints/llama-1.1b"))
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    folders = [demo_path(), *([args.model] if args.model.is_dir() else [])]
    deadline_s = time.monotonic() + 60 * args.minutes
    rows = rows_in(args.json)
    done = {key_of(row) for row in rows}
    for shape, frac, folder in itertools.product(SHAPES, BUDGET_FRACS, folders):
        if time.monotonic() < deadline_s and (folder.name, frac, *vars(shape).values()) not in done:
            rows.append(measure(folder, frac, shape, args.threads))
            print(format_row(rows[-1]), flush=True)
            if args.json:
                result = {"benchmark": "plan-choice", "testbed": describe(), "rows": rows}
                write_whole(args.json, result)
    print(summary(rows))


def rows_in(file: Path | None) -> list[Row]:
    """The cases that an earlier run has measured."""
    return json.loads(file.read_text())["rows"] if file and file.exists() else []


def key_of(row: Row) -> tuple[object, ...]:
    """What case a row is of."""
    return (row["model"], row["budget_frac"], *row["shape"].values())


def measure(folder: Path, budget_frac: float, shape: Shape, threads: int) -> Row:
    """One case: plans of the whole range, each measured."""
    weight_bytes = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    with LLM(
        folder, cpu_memory=int(budget_frac * weight_bytes), threads=threads, speculation="off"
    ) as llm:
        parts = llm.choices, shape.workload, llm.profile, llm.budget_bytes
        request = planning_request(*parts)
    load, progress = OtherLoad(), RunProgress(Console(quiet=True))

    def run(plan: Plan) -> tuple[float, float]:
        predicted, measured = run_plan(str(folder), request, plan, shape, progress)
        return predicted.run_s, measured.run_s

    plans = distinct([make_plan(request), *spread(request)])
    predicted_s, measured_s = (list(column) for column in zip(*map(run, plans), strict=True))
    fastest = plans[measured_s.index(min(measured_s))]
    losses = duel(partial(run, plans[0]), partial(run, fastest), plans[0] is fastest)
    return {
        "model": folder.name,
        "budget_frac": budget_frac,
        "shape": vars(shape),
        "others_frac": load.busy_frac,
        **with_interval("loss", losses),
        "ranking": vars(ranking_of(predicted_s, measured_s)),
        "plans": [
            {"choice": sizes(plan), "predicted_s": before_s, "measured_s": after_s}
            for plan, before_s, after_s in zip(plans, predicted_s, measured_s, strict=True)
        ],
    }


def distinct(plans: list[Plan]) -> list[Plan]:
    """Each decision once, in their order."""
    return list({choice_of(plan): plan for plan in plans}.values())


def duel(chosen: Run, fastest: Run, same: bool) -> list[float]:
    """Times of the chosen plan over those of the fastest in turns; 1 where that is the chosen."""
    if same:
        return [1.0]
    pairs = []
    for index in range(DUELS):
        first, second = (chosen, fastest) if index % 2 else (fastest, chosen)
        times = first()[1], second()[1]
        pairs.append(times if index % 2 else times[::-1])
    return [chosen_s / fastest_s for chosen_s, fastest_s in pairs]


def spread(request: Request) -> list[Plan]:
    """PLANS plans at equal steps through all that are not hopeless, by estimate."""
    predictor = Predictor(request)
    ranked = sorted(
        ((predictor.estimate_s(one), i, one) for i, one in enumerate(candidates(request))),
        key=lambda found: found[:2],
    )
    kept = [one for seconds, _, one in ranked if seconds < HOPELESS * ranked[0][0]]
    step = max(len(kept) / PLANS, 1.0)
    picked = [kept[int(index * step)] for index in range(min(PLANS, len(kept)))]
    return [predictor.timed(one).plan for one in picked]


def sizes(plan: Plan) -> Row:
    """A plan's decisions but the names of units."""
    record = asdict(choice_of(plan))
    return {key: value for key, value in record.items() if key not in ("resident", "streamed")}


def format_row(row: Row) -> str:
    """One case on one line."""
    shape, ranking = row["shape"], row["ranking"]
    return (
        f"{row['model']:<12} budget {row['budget_frac']:.2f} batch {shape['batch_size']:>2} prompt "
        f"{shape['prompt_len']:>3}: others {row['others_frac']:4.0%}, chosen is {row['loss']:.3f}x "
        f"the best of {len(row['plans'])}, {ranking['wrong_pairs']} of {ranking['pairs']} pairs "
        "in the wrong order"
    )


def summary(rows: list[Row]) -> str:
    """How often the goal holds."""
    good = sum(row["loss"] <= GOAL for row in rows)
    worst = max((row["loss"] for row in rows), default=1.0)
    return (
        f"within 5 % of the best measured plan in {good} of {len(rows)} cases (goal: nine in ten), "
        f"at worst {1 / worst:.0%} of it (goal: {1 / LEAST:.0%})"
    )


if __name__ == "__main__":
    main()
