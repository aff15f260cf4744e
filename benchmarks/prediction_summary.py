"""How far predictions were off: a line for each point, medians over groups of them."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from benchmarks.machine_pace import Pace
from benchmarks.paced_runs import PHASES

PACES = tuple(field.name for field in fields(Pace))
QUIET_FRAC = 0.05  # of the cores at work for others, up to which a point counts as quiet
Row = dict[str, Any]


def summary(rows: Iterable[Row]) -> dict[str, dict[str, float]]:
    """Median and 90th percentile of the absolute errors: all, quiet, by model and by format."""
    measured = [row for row in rows if "measured" in row]
    groups = {
        "all": measured,
        "quiet": [row for row in measured if row["others_frac"] <= QUIET_FRAC],
    }
    for axis in ("model", "weight_format"):
        for value in sorted({row[axis] for row in measured}):
            groups[f"{axis} {value}"] = [row for row in measured if row[axis] == value]
    return {
        f"{name}, {phase}": statistics_of([row["errors"][phase] for row in members])
        for name, members in groups.items()
        for phase in PHASES
        if members
    }


def statistics_of(signed: list[float]) -> dict[str, float]:
    """Of one phase; `bias` is the median with its sign: above zero is predicted too fast."""
    sizes = sorted(abs(error) for error in signed)
    return {
        "points": len(sizes),
        "median": statistics.median(sizes),
        "p90": sizes[min(int(0.9 * len(sizes)), len(sizes) - 1)],
        "bias": statistics.median(signed),
    }


def format_row(row: Row) -> str:
    """The figures of one point on one line."""
    if "skipped" in row:
        return f"{row['key']:<40} {row['skipped']}"
    steady = sum(run["steady"] for run in row["runs"])
    parts = [f"{row['key']:<40} others {row['others_frac']:4.0%}, {steady} of {len(row['runs'])}"]
    for phase, error in row["errors"].items():
        told = " ".join(f"{row['paces'][phase][one]:.2f}" for one in PACES)
        rate = row["measured"][f"{phase}_tokens_per_s"]
        parts.append(f"{phase} {rate:9.2f} tok/s (pace {told}), predicted {error:+.1%}")
    return "  ".join(parts)


def print_summary(groups: dict[str, dict[str, float]]) -> None:
    """A line for each group; the goal is a median of 7 % and 15 % for nine in ten."""
    print("goal: median 7 %, 90th percentile 15 %")
    for name, found in groups.items():
        print(
            f"{name:<28}{found['points']:>4} points: median {found['median']:.1%}, 90th percentile "
            f"{found['p90']:.1%}, bias {found['bias']:+.1%}"
        )
