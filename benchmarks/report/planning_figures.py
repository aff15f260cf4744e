"""How long it takes to plan for large models on described machines."""

from __future__ import annotations

from benchmarks.report.lane_shapes import GOAL, Bar, Shape, Spread, Tick
from benchmarks.report.lanes import Lane, LaneChart
from benchmarks.report.result_files import Results, Row, rows_of_kind

GOAL_S = 2.0


def planning_charts(results: Results) -> list[LaneChart]:
    """A lane for each command, its search within it."""
    rows = rows_of_kind(results, "planning")
    keys = (
        (Bar(0, 5), "whole command"), (Bar(0, 0), "its search"),
        (Tick(0, GOAL), f"goal {GOAL_S:g} s"),
    )  # fmt: skip
    lanes = tuple(_lane(row) for row in rows)
    return [LaneChart("Planning: model x prompts", "seconds", lanes, keys)] if lanes else []


def _lane(row: Row) -> Lane:
    prompts = f" x {row['batch']}" if isinstance(row["batch"], int) else ""
    shapes: list[Shape] = [Bar(row["command_s"], 5), Bar(row["search_s"]), Tick(GOAL_S, GOAL)]
    runs = row.get("command_s_runs", [])
    if len(runs) > 1:
        shapes.append(Spread(min(runs), max(runs)))
    count = f", n {len(runs)}" if runs else ""
    return Lane(
        f"{row['command']} {row['model']}{prompts}, {row['machine']}",
        f"{row['command_s']:.2f} s, search {row['search_s']:.2f} s{count}", tuple(shapes),
    )  # fmt: skip
