"""Predicted against measured rates, the roofline of the kernels, and quality against speed."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.peer_rows import is_ours
from benchmarks.report.chart import Chart, Guide, Point, Series
from benchmarks.report.peer_figures import RATE, grouped
from benchmarks.report.result_files import Results, Row, of_kind, peer_rows, rows_of_kind

BAND = 1.15  # the goal for nine predictions in ten
FORMATS_OF_ENGINE = {None: "bf16", "int8": "int8:64", "int4": "int4:64"}
WEIGHTS_GOAL, CACHE_GOAL = ("int4:64", 3.0), ("int4", 2.0)  # formats, worse by % at most
FAR = 1e9


def prediction_charts(results: Results) -> list[Chart]:
    """For each phase: a point on the diagonal was predicted exactly."""
    rows = [row for row in rows_of_kind(results, "prediction") if "measured" in row]
    band = ((1.0, "as predicted"), (BAND, "15 % too fast"), (1 / BAND, "15 % too slow"))
    diagonals = tuple(Guide(((1 / FAR, k / FAR), (FAR, k * FAR)), name) for k, name in band)
    charts = []
    for phase in ("prefill", "decode"):
        series = tuple(_predicted(rows, f"{phase}_tokens_per_s"))
        if series:
            title = f"{phase}, tokens/s; dashed: exact and 15 % off"
            charts.append(
                Chart(title, "measured", "predicted", series, diagonals, True, True, True)
            )
    return charts


def _predicted(rows: list[Row], rate: str) -> Iterator[Series]:
    for (name,), members in sorted(grouped(rows, ("weight_format",)).items()):
        points = []
        for row in members:
            measured, predicted = row["measured"][rate] or 0, row["predicted"][rate] or 0
            if measured > 0 and predicted > 0:
                note = f"{row['key']}: {predicted / measured - 1:+.1%}"
                points.append(Point(measured, predicted, note))
        if points:
            yield Series("own precision" if name == "own" else name, tuple(points), joined=False)


def roofline_charts(results: Results) -> list[Chart]:
    """Products, and attention where it was measured, each below the ceilings of its own run."""
    kinds = ("kernels", "attention")
    return [roofline(*found) for kind in kinds for found in of_kind(results, kind).items()]


def roofline(name: str, result: Row) -> Chart:
    """Rate against intensity, below what memory and torch's product allow in the same run."""
    read = result["ceilings"]["read_bytes_per_s"] / 1e9
    peak = result["ceilings"]["sgemm_flops_per_s"] / 1e9
    roof = (
        Guide(((1 / FAR, read / FAR), (FAR, read * FAR)), f"memory read, {read:.1f} GB/s"),
        Guide(((1 / FAR, peak), (FAR, peak)), f"torch's float32 product, {peak:.0f} GFLOP/s"),
    )
    title = f"{name}; dashed: memory {read:.0f} GB/s, torch {peak:.0f} GFLOP/s"
    series = tuple(_kernels(result["rows"]))
    return Chart(title, "FLOP for each byte of weights or KV", "GFLOP/s", series, roof, True, True)


def _kernels(rows: list[Row]) -> Iterator[Series]:
    counted = [row for row in rows if row["gflops_per_s"] > 0]
    named = [{**row, "series": row.get("format") or row.get("operation")} for row in counted]
    for (name,), members in grouped(named, ("series",)).items():
        points = tuple(_below_roof(row) for row in members)
        yield Series(str(name), points, joined="m" in members[0])


def _below_roof(row: Row) -> Point:
    what = row.get("m") or row.get("shape") or row.get("case")
    rate, intensity = row["gflops_per_s"], row["gflops_per_s"] / row["gbytes_per_s"]
    return Point(intensity, rate, f"{what}: {row['gbytes_per_s']:.1f} GB/s")


def quality_charts(results: Results) -> list[Chart]:
    """Loss of perplexity against speed, of formats of weights and of the KV cache."""
    if not (rows := rows_of_kind(results, "quality")):
        return []
    own = rows[0]  # the reference
    kv_own, weights_own = own.get("kv_format"), own["weight_format"]
    weights = {row["weight_format"]: row for row in rows if row.get("kv_format") == kv_own}
    caches = {str(row.get("kv_format")): row for row in rows if row["weight_format"] == weights_own}
    charts = [
        quality_chart("weights", WEIGHTS_GOAL, *_speeds(results), weights),
        quality_chart("KV cache", CACHE_GOAL, *_kv_speeds(results), caches),
    ]
    return [chart for chart in charts if chart.series]


def quality_chart(
    what: str, goal: tuple[str, float], label: str, speeds: dict[str, float], rows: dict[str, Row]
) -> Chart:
    """A point for each format whose speed is known, by name; dashed the goal of one of them."""
    series = []
    goal_format, most_percent = goal
    for name, row in rows.items():
        if (speed := speeds.get(name)) is not None:
            loss_percent = round(100 * (row["perplexity_over_reference"] - 1), 2) + 0.0  # no -0
            note = f"{speed:.3g}, perplexity {loss_percent:+.2f} %"
            point = Point(speed, loss_percent, note, label=f"{loss_percent:+.2f} %")
            series.append(Series(name, (point,)))
    ends = (0.0, 2 * max(speeds.values(), default=1.0))  # cut at the frame
    line = Guide(tuple((x, most_percent) for x in ends), f"goal of {goal_format}", held=True)
    title = f"{what}, demo model; dashed: goal of {goal_format}"
    return Chart(title, label, "perplexity worse by %", tuple(series), (line,))


def _kv_speeds(results: Results) -> tuple[str, dict[str, float]]:
    """Attention of the largest decode case over each format of the cache."""
    rows = [row for row in rows_of_kind(results, "attention") if "over_bf16" in row]
    decode = [row for row in rows if row["case"]["rows"] == 1]
    if not decode:
        return "", {}
    case = max((row["case"] for row in decode), key=lambda it: it["sequences"] * it["context"])
    shape = f"{case['sequences']} sequences of {case['context']}"
    speeds = {row["format"]: row["over_bf16"] for row in decode if row["case"] == case}
    names = {"int8": "int8:row", "int4": "int4:64"}  # as the quality table calls them
    found = {names.get(format, format): speed for format, speed in speeds.items()}
    return f"decode attention, times as fast as bf16; {shape}", found


def _speeds(results: Results) -> tuple[str, dict[str, float]]:
    """How fast each format is: decoding, else one product, else only its bytes."""
    cells = grouped(
        filter(is_ours, peer_rows(results)),
        ("model", "batch", "limit_bytes", "prompt_len"),
    )
    best = max(cells.values(), key=len, default=[])
    if len(best) > 2:
        speeds = {FORMATS_OF_ENGINE[row.get("weight_format")]: row[RATE] for row in best}
        return f"decode tokens/s, {best[0]['model']}, batch {best[0]['batch']}", speeds
    products = [row for row in rows_of_kind(results, "kernels") if row.get("m") == 1]
    if products:
        fast = {row["format"]: row["over_own_bf16"] for row in products}
        return "product with one row, times as fast as bf16", fast
    sizes = {
        row["weight_format"]: row["bytes_per_weight"] for row in rows_of_kind(results, "quality")
    }
    return "bytes for each weight (speed: run bench_kernels)", sizes
