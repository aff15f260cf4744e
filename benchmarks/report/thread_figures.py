"""Every setting of threads that was swept, with the plan's choice and torch's default."""

from __future__ import annotations

from benchmarks.report.lane_shapes import GOAL, Bar, Diamond, Shape, Spread, Stroke, Tick
from benchmarks.report.lanes import Lane, LaneChart
from benchmarks.report.result_files import Results, Row, rows_of_kind
from benchmarks.report.row_marks import ratio_words, spread

SLOWER_GOAL, FASTER_GOAL = 1.03, 1.2
COMPETING = "int4-streamed-long"  # where disk, attention and products want the cores at once


def thread_charts(results: Results) -> list[LaneChart]:
    """The sweep of all settings, and the choice beside torch's default."""
    rows = rows_of_kind(results, "threads")
    told = [row for row in rows if "speedup_over_default" in row]
    charts = [swept(rows)] if rows else []
    return [*charts, *([over_default(told)] if told else [])]


def swept(rows: list[Row]) -> LaneChart:
    """A lane for each workload, a stroke for each setting."""
    keys = (
        (Stroke(0, ""), "every setting, swept once"),
        (Diamond(0, "", hollow=True), "the plan's, in that sweep"),
        (Diamond(0, ""), "in turns with the fastest"),
        (Tick(0, GOAL), f"goal {SLOWER_GOAL}"),
    )
    lanes = tuple(_swept_lane(row) for row in rows)
    least = min(value for lane in lanes for shape in lane.shapes for value in shape.values())
    title = "Every setting of threads: the plan's choice against the fastest"
    start = int(least * 10) / 10
    return LaneChart(title, "a sweep's time over that of the fastest", lanes, keys, start, 1.0)


def _swept_lane(row: Row) -> Lane:
    fastest_s = row["settings"][0]["sweep_s"]
    shapes: list[Shape] = [
        Stroke(one["sweep_s"] / fastest_s, _words(one)) for one in row["settings"]
    ]
    chosen = next(one for one in row["settings"] if row["chosen"].items() <= one.items())
    shapes.append(Diamond(chosen["sweep_s"] / fastest_s, _words(chosen), hollow=True))
    shapes.append(Tick(SLOWER_GOAL, GOAL))
    shapes += [*spread(row, "loss"), Diamond(row["loss"], _words(chosen))]
    is_fastest = chosen is row["settings"][0]
    words = "the fastest" if is_fastest else ratio_words(row, "loss")
    return Lane(_name(row), f"of {len(row['settings'])}: {words}", tuple(shapes))


def over_default(rows: list[Row]) -> LaneChart:
    """How much faster the plan's choice is than every core for everything."""
    title, label = "The plan's choice against torch's default", "times as fast"
    keys = (
        (Bar(0), "the plan's choice"), (Spread(0, 0), "interval"),
        (Tick(0, GOAL), f"goal {FASTER_GOAL} where tasks compete"),
    )  # fmt: skip
    lanes = tuple(_default_lane(row) for row in rows)
    return LaneChart(title, label, lanes, keys, line=1.0)


def _default_lane(row: Row) -> Lane:
    key = "speedup_over_default"
    goals = [Tick(FASTER_GOAL, GOAL)] if row["case"] == COMPETING else []
    shapes: list[Shape] = [Bar(row[key]), *spread(row, key), *goals]
    return Lane(_name(row), ratio_words(row, key), tuple(shapes))


def _name(row: Row) -> str:
    return f"{row['case']}, {row['batch']} x {row['context']}"


def _words(setting: Row) -> str:
    counts = ", ".join(f"{name} {setting[name]}" for name in setting if name != "sweep_s")
    return f"{setting['sweep_s'] * 1e3:.2f} ms: {counts}"
