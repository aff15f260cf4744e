"""Decode sweeps over a KV cache beyond its memory, beside what bounds them."""

from __future__ import annotations

from benchmarks.report.lane_shapes import GOAL, LIMIT, Bar, Shape, Spread, Tick
from benchmarks.report.lanes import Lane, LaneChart
from benchmarks.report.result_files import Results, Row, rows_of_kind

GOAL_FRAC = 0.8  # of the bound


def long_context_charts(results: Results) -> list[LaneChart]:
    """One for each case."""
    return [long_context(row) for row in rows_of_kind(results, "long-context")]


def long_context(row: Row) -> LaneChart:
    """Disk alone and compute alone, of which the larger is the bound; predicted and measured."""
    read_ms = 1e3 * row["kv_read_bytes"] / row["disk_bytes_per_s"]
    resident_ms, predicted_ms = (1e3 * row[f"{kind}_sweep_s"] for kind in ("resident", "predicted"))
    bound_ms = max(read_ms, resident_ms)
    marks = (Tick(bound_ms / GOAL_FRAC, GOAL), Tick(bound_ms, LIMIT))
    read = f"{row['kv_read_bytes'] / 1e9:.2f} GB at {row['disk_bytes_per_s'] / 1e9:.2f} GB/s"
    share = f"{row['bound_frac']:.0%} of the bound"
    lanes = (
        Lane("KV from the disk, nothing computed", f"{read}: {read_ms:.0f} ms", (Bar(read_ms, 5),)),
        _measured("all KV in memory", row, "resident_sweep_s", 5),
        Lane("KV partly on disk, predicted", f"{predicted_ms:.0f} ms", (Bar(predicted_ms, 1),)),
        _measured(f"the same, measured: {share}", row, "spilled_sweep_s", 0, marks),
    )
    keys = (
        (Bar(0, 5), "alone"), (Bar(0, 1), "predicted"), (Bar(0, 0), "measured"),
        (Tick(0, LIMIT), "bound"), (Tick(0, GOAL), f"goal: {GOAL_FRAC:.0%} of it"),
    )  # fmt: skip
    ratio = row["kv_bytes"] / row["kv_memory_bytes"]
    sizes = f"{row['batch']} x {row['context']}, KV {row['kv_format']} of {ratio:.1f}x its memory"
    return LaneChart(f"{row['model']}, {sizes}", "decode sweep (ms)", lanes, keys)


def _measured(name: str, row: Row, key: str, colour: int, marks: tuple[Shape, ...] = ()) -> Lane:
    """A median with the least and the most of its sweeps, where the file has them."""
    time_ms = 1e3 * row[key]
    runs_ms = [1e3 * seconds for seconds in row.get(f"{key}_runs", ())]
    spread = (Spread(min(runs_ms), max(runs_ms)),) if len(runs_ms) > 1 else ()
    count = f", n {len(runs_ms)}" if runs_ms else ""
    return Lane(name, f"{time_ms:.0f} ms{count}", (Bar(time_ms, colour), *spread, *marks))
