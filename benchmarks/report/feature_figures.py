"""What each feature gains over the same engine without it: drafts, shared prefixes, and others."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from benchmarks.report.lane_shapes import GOAL, LIMIT, Bar, Shape, Spread, Tick
from benchmarks.report.lanes import Lane, LaneChart
from benchmarks.report.result_files import Results, Row, rows_of_kind
from benchmarks.report.row_marks import inverse, ratio_words, spread

SPECULATION_GOAL, NEVER_RIGHT_GOAL, PREFIX_GOAL = 1.8, 1 / 1.03, 10.0
PREFIX_GOAL_CASE = (64, 1024)  # prompts and their common tokens
FASTER = "times as fast as without; dashed: no difference"
GAIN_NAMES: dict[str, Callable[[Row], str]] = {
    "replay": lambda row: f"{row['model']}, {row['weight_format']}, batch {row['batch']}",
    "retention": lambda row: f"{row['model']}, batch {row['batch']}",
    "swapping": lambda row: f"{row['model']}, weights {row['weights']}",
}


def speculation_charts(results: Results) -> list[LaneChart]:
    """Drafts that are right and drafts that never are; no sweep gives more than its tokens."""
    lanes = tuple(lane for row in rows_of_kind(results, "speculation") for lane in _drafts(row))
    keys = (
        (Bar(0, 0), "drafts"), (Bar(0, 5), "drafts that are never right"),
        (Tick(0, GOAL), "goal"), (Tick(0, LIMIT), "tokens a sweep"),
    )  # fmt: skip
    title = "Drafts at batch 1, out of core"
    return [LaneChart(title, FASTER, lanes, keys, line=1.0)] if lanes else []


def _drafts(row: Row) -> Iterator[Lane]:
    name = f"{row['model']}, {row['prompts']}"
    limit = row["auto"]["tokens"] / row["auto"]["sweeps"]
    goals = (Tick(SPECULATION_GOAL, GOAL), Tick(limit, LIMIT))
    yield Lane(
        f"{name}: from the text", ratio_words(row, "speedup"),
        (Bar(row["speedup"]), *spread(row, "speedup"), *goals),
    )  # fmt: skip
    yield _never_right(f"{name}: never right", row, "never_accepted_slowdown")
    if "draft_speedup" in row:
        shapes = (Bar(row["draft_speedup"]), *spread(row, "draft_speedup"))
        yield Lane(f"{name}: draft model", ratio_words(row, "draft_speedup"), shapes)
        yield _never_right(f"{name}: model, never right", row, "draft_never_right_slowdown")


def _never_right(name: str, row: Row, key: str) -> Lane:
    """A slowdown as a speed."""
    shapes = (Bar(1 / row[key], 5), *spread(row, key, inverse), Tick(NEVER_RIGHT_GOAL, GOAL))
    return Lane(name, ratio_words(row, key, inverse), shapes)


def prefix_charts(results: Results) -> list[LaneChart]:
    """First tokens of prompts that begin alike, and of one prompt that lies on disk."""
    lanes = tuple(lane for row in rows_of_kind(results, "prefix") for lane in _prefix_lanes(row))
    keys = (
        (Bar(0, 0), "computed once for all prompts"), (Bar(0, 2), "read from disk"),
        (Tick(0, GOAL), "goal"), (Tick(0, LIMIT), "limit: tokens computed"),
    )  # fmt: skip
    title, label = "Prompts with a common beginning", "times sooner; dashed: no difference"
    return [LaneChart(title, label, lanes, keys, line=1.0)] if lanes else []


def _prefix_lanes(row: Row) -> Iterator[Lane]:
    prompts, common, own = row["prompts"], row["prefix_len"], row["tail_len"]
    limit = prompts * (common + own) / (common + prompts * own)
    shapes: list[Shape] = [Bar(row["times_sooner"]), *spread(row, "times_sooner")]
    if (prompts, common) == PREFIX_GOAL_CASE:
        shapes.append(Tick(PREFIX_GOAL, GOAL))
    name = f"{row['model']}: {prompts} prompts of {common} + {own}"
    yield Lane(name, ratio_words(row, "times_sooner"), (*shapes, Tick(limit, LIMIT)))
    read = row["read_times_sooner"]
    yield Lane(f"{row['model']}: one prompt, read", f"{read:.2f}x", (Bar(read, 2),))


def gain_charts(results: Results) -> list[LaneChart]:
    """Features that are switched on and off in turns on one engine."""
    lanes = [
        Lane(f"{kind}: {name(row)}", ratio_words(row, "speedup"), _gain(row))
        for kind, name in GAIN_NAMES.items()
        for row in rows_of_kind(results, kind)
        if "speedup" in row
    ]
    keys = (
        (Bar(0), "with the feature"), (Spread(0, 0), "interval"),
        (Tick(0, LIMIT), "limit: bytes not read"),
    )  # fmt: skip
    title = "Features switched on and off in turns"
    return [LaneChart(title, FASTER, tuple(lanes), keys, line=1.0)] if lanes else []


def _gain(row: Row) -> tuple[Shape, ...]:
    """The speed-up; where weights are read, no more than by what need not be."""
    shapes = (Bar(row["speedup"]), *spread(row, "speedup"))
    if not row.get("read_without_bytes"):
        return shapes
    return (*shapes, Tick(row["read_without_bytes"] / row["read_bytes"], LIMIT))
