"""Whole decode sweeps below the roofs of disk, memory and arithmetic (a hierarchical roofline)."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.report.chart import Chart, Guide, Point, Series
from benchmarks.report.model_figures import FAR
from benchmarks.report.result_files import Results, Row, of_kind


def sweep_charts(results: Results) -> list[Chart]:
    """A chart for each model that was streamed; roofs are the medians of its own run."""
    return [
        sweeps(name.removeprefix("streaming-"), result["rows"])
        for name, result in of_kind(results, "streaming").items()
    ]


def sweeps(model: str, rows: list[Row]) -> Chart:
    """Resident sweeps over the bytes of memory, streamed ones over those of the disk."""
    disk, memory, peak = (
        sorted(row[key] for row in rows)[len(rows) // 2] / 1e9
        for key in ("disk_bytes_per_s", "memory_read_bytes_per_s", "product_flops_per_s")
    )
    roofs = (
        Guide(((1 / FAR, disk / FAR), (FAR, disk * FAR)), f"disk, {disk:.1f} GB/s"),
        Guide(((1 / FAR, memory / FAR), (FAR, memory * FAR)), f"memory, {memory:.0f} GB/s"),
        Guide(((1 / FAR, peak), (FAR, peak)), f"product, {peak:.0f} GFLOP/s"),
    )
    series = (
        Series("half of it streamed", tuple(_points(rows, "read_bytes_per_sweep", "streamed"))),
        Series("resident", tuple(_points(rows, "weight_bytes", "resident"))),
    )
    title = f"{model}; dashed: disk {disk:.1f}, memory {memory:.0f} GB/s, {peak:.0f} GFLOP/s"
    label = "FLOP for each byte of weights read, from disk or from memory"
    return Chart(title, label, "GFLOP/s", series, roofs, True, True)


def _points(rows: list[Row], bytes_key: str, kind: str) -> Iterator[Point]:
    for row in rows:
        flops = row["batch"] * (row["weight_bytes"] - row["row_gathered_bytes"])  # 2 bytes a weight
        rate = flops / row[f"{kind}_sweep_s"] / 1e9
        note = f"batch {row['batch']}: {row[f'{kind}_sweep_s'] * 1e3:.0f} ms"
        yield Point(flops / row[bytes_key], rate, note)
