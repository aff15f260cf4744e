"""Published figures of other systems against what the simulator predicts for them."""

from __future__ import annotations

from benchmarks.report.chart import Chart, Guide, Point, Series
from benchmarks.report.model_figures import FAR
from benchmarks.report.result_files import Results, Row, rows_of_kind

GOAL = 1.2  # for FlexGen's rows with offloading
KINDS = {"published": "policy published", "inferred": "policy inferred"}


def published_charts(results: Results) -> list[Chart]:
    """A point on the diagonal was predicted exactly."""
    rows = rows_of_kind(results, "published")
    goals = Series(
        "with a goal of 20 or 10 %", points([row for row in rows if row["goal_frac"]]), False
    )
    others = [row for row in rows if not row["goal_frac"]]
    kinds = [
        Series(name, points([row for row in others if row["policy_from"] == kind]), False)
        for kind, name in KINDS.items()
    ]
    band = ((1.0, "as published"), (GOAL, "20 % too fast"), (1 / GOAL, "20 % too slow"))
    diagonals = tuple(Guide(((1 / FAR, k / FAR), (FAR, k * FAR)), name) for k, name in band)
    return [
        Chart(
            "simulated, tokens/s; dashed: exact and 20 % off", "published", "predicted",
            tuple(series for series in (goals, *kinds) if series.points), diagonals,
            True, True, True,
        )
    ]  # fmt: skip


def points(rows: list[Row]) -> tuple[Point, ...]:
    """Each row with its table, system and error as a note."""
    return tuple(
        Point(
            row["published_tokens_per_s"], row["predicted_tokens_per_s"],
            f"{row['table']}, {row['model']}, {row['system']}: {row['error_frac']:+.0%}",
        )
        for row in rows
    )  # fmt: skip
