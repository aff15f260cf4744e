"""Throughput of the engines against the batch and against the memory that the model may use."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

from benchmarks.report.chart import Chart, Point, Series
from benchmarks.report.result_files import Results, Row, peer_rows

RATE = "decode_tokens_per_s"
GIB = 2**30


def batch_charts(results: Results) -> list[Chart]:
    """One for each model, format, limit and prompt length that was run at several batch sizes."""
    groups = grouped(peer_rows(results), ("model", "weight_format", "limit_bytes", "prompt_len"))
    return [
        Chart(
            f"{model}{in_format(format)}, {memory(limit)}, prompt {prompt_len}",
            "batch (sequences)", "decode tokens/s", tuple(lines(rows, lambda row: row["batch"])),
            x_log=True, y_log=True, x_ticks=tuple(sorted({row["batch"] for row in rows})),
        )
        for (model, format, limit, prompt_len), rows in groups.items()
        if len({row["batch"] for row in rows}) > 1
    ]  # fmt: skip


def budget_charts(results: Results) -> list[Chart]:
    """One for each model, format, batch and prompt length that was run under several limits."""
    rows = [row for row in peer_rows(results) if budget_gib(row)]
    groups = grouped(rows, ("model", "weight_format", "batch", "prompt_len"))
    return [
        Chart(
            f"{model}{in_format(format)}, batch {batch}, prompt {prompt_len}",
            "memory for the model (GiB); the last point: no limit", "decode tokens/s",
            tuple(lines(members, budget_gib)), y_log=True,
        )
        for (model, format, batch, prompt_len), members in groups.items()
        if len({budget_gib(row) for row in members}) > 1
    ]  # fmt: skip


def grouped(rows: Iterable[Row], keys: tuple[str, ...]) -> dict[tuple, list[Row]]:
    """Rows by what they have in common."""
    groups: dict[tuple, list[Row]] = defaultdict(list)
    for row in rows:
        groups[tuple(row.get(key) for key in keys)].append(row)
    return groups


def lines(rows: list[Row], x_of: Callable[[Row], float]) -> Iterator[Series]:
    """A line for each engine, ours first, so that its colour is the same everywhere."""
    by_peer = grouped(rows, ("peer",))
    for (peer,), members in sorted(by_peer.items(), key=lambda item: engine_rank(item[0][0])):
        ordered = sorted(members, key=x_of)
        yield Series(peer, tuple(point(row, x_of(row)) for row in ordered))


def engine_rank(peer: str) -> tuple[bool, str]:
    """Sorts ours before the others."""
    return not peer.startswith("lm_offload"), peer


def point(row: Row, x: float) -> Point:
    """A rate with its spread."""
    runs = row.get(f"{RATE}_runs") or [row[RATE]]
    low, high = (min(runs), max(runs)) if len(runs) > 1 else (None, None)
    return Point(x, row[RATE], f"{row[RATE]:.2f} tokens/s", low, high)


def budget_gib(row: Row) -> float:
    """The limit, or the size of all weights where there was none; 0 where that is not known."""
    return (row["limit_bytes"] or row.get("weight_bytes") or 0) / GIB


def memory(limit_bytes: int | None) -> str:
    """The limit in words."""
    return f"{limit_bytes / 2**20:.0f} MiB for the model" if limit_bytes else "no memory limit"


def in_format(weight_format: str | None) -> str:
    """A weight format in words; nothing for the checkpoint's own."""
    return f" in {weight_format}" if weight_format else ""
