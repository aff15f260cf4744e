"""Throughput of the engines against the batch and against the memory that the model may use."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from benchmarks.report.chart import Chart, Guide, Point, Series
from benchmarks.report.engine_names import engine_name
from benchmarks.report.result_files import Results, Row, of_kind

RATE, CEILING = "decode_tokens_per_s", "decode_ceiling_tokens_per_s"
LABEL, DASHED = "decode tokens/s", "; dashed: ceiling"
GIB = 2**30
Key = tuple[Any, ...]


def batch_charts(results: Results) -> list[Chart]:
    """One for each model, format, limit and prompt length that was run at several batch sizes."""
    keys = ("model", "weight_format", "limit_bytes", "prompt_len")
    return [
        Chart(
            f"{model}{in_format(format)}, {memory(limit)}, prompt {prompt_len}",
            f"batch (sequences){source}", f"{LABEL}{DASHED if ceiling else ''}",
            tuple(lines(rows, batch_of)), ceiling,
            x_log=True, y_log=True, x_ticks=tuple(sorted({row["batch"] for row in rows})),
        )
        for (model, format, limit, prompt_len), source, rows in cells(results, keys, batch_of)
        for ceiling in [ceilings(rows, batch_of)]
    ]  # fmt: skip


def budget_charts(results: Results) -> list[Chart]:
    """One for each model, format, batch and prompt length that was run under several limits."""
    keys = ("model", "weight_format", "batch", "prompt_len")
    return [
        Chart(
            f"{model}{in_format(format)}, batch {batch}, prompt {prompt_len}",
            f"memory for the model (GiB); the last point: no limit{source}",
            f"{LABEL}{DASHED if ceiling else ''}", tuple(lines(rows, budget_gib)), ceiling,
            y_log=True,
        )
        for (model, format, batch, prompt_len), source, rows in cells(results, keys, budget_gib)
        for ceiling in [ceilings(rows, budget_gib)]
    ]  # fmt: skip


def cells(
    results: Results, keys: tuple[str, ...], x_of: Callable[[Row], float]
) -> Iterator[tuple[Key, str, list[Row]]]:
    """Rows of several x by what they have in common, and the file where it must be told.

    Files are drawn together as long as no engine has two figures for one x. Most engines first.
    """
    named = [
        {**row, "file": f"; {name}.json"}
        for name, result in of_kind(results, "peers").items()
        for row in result["rows"]
        if not row.get("error") and x_of(row)
    ]
    groups = sorted(grouped(named, keys).items(), key=lambda group: -engines(group[1]))
    for key, rows in groups:
        places = [(row["peer"], x_of(row)) for row in rows]
        apart = {"": rows} if len(places) == len(set(places)) else by_file(rows)
        for source, members in apart.items():
            if len({x_of(row) for row in members}) > 1:
                yield key, source, members


def engines(rows: list[Row]) -> int:
    """How many there are."""
    return len({row["peer"] for row in rows})


def by_file(rows: list[Row]) -> dict[str, list[Row]]:
    """Rows by the file that they come from."""
    return {name: members for (name,), members in grouped(rows, ("file",)).items()}


def ceilings(rows: list[Row], x_of: Callable[[Row], float]) -> tuple[Guide, ...]:
    """What the machine allows at each x: the median over the engines."""
    known = [row for row in rows if row.get(CEILING)]
    found = {
        x: statistics.median(row[CEILING] for row in known if x_of(row) == x)
        for x in sorted(set(map(x_of, known)))
    }
    return (Guide(tuple(found.items()), "ceiling", held=True),) if len(found) > 1 else ()


def batch_of(row: Row) -> float:
    """How many sequences."""
    batch: int = row["batch"]
    return batch


def grouped(rows: Iterable[Row], keys: tuple[str, ...]) -> dict[Key, list[Row]]:
    """Rows by what they have in common."""
    groups: dict[Key, list[Row]] = defaultdict(list)
    for row in rows:
        groups[tuple(row.get(key) for key in keys)].append(row)
    return groups


def lines(rows: list[Row], x_of: Callable[[Row], float]) -> Iterator[Series]:
    """A line for each engine, ours first, so that its colour is the same everywhere."""
    by_peer = grouped(rows, ("peer",))
    for (peer,), members in sorted(by_peer.items(), key=lambda item: engine_rank(item[0][0])):
        ordered = sorted(members, key=x_of)
        yield Series(engine_name(peer), tuple(point(row, x_of(row)) for row in ordered))


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
    size_bytes: int = row["limit_bytes"] or row.get("weight_bytes") or 0
    return size_bytes / GIB


def memory(limit_bytes: int | None) -> str:
    """The limit in words."""
    return f"{limit_bytes / 2**20:.0f} MiB for the model" if limit_bytes else "no memory limit"


def in_format(weight_format: str | None) -> str:
    """A weight format in words; nothing for the checkpoint's own."""
    return f" in {weight_format}" if weight_format else ""
