"""Rows of any benchmark as a Markdown table: units from names, constant columns apart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.report.result_files import Row

MAX_COLUMNS = 10
TITLES = {
    "replay": "Decode sweeps with their units replayed, and with every kernel called from Python",
    "retention": "Decode with weights in memory that the KV cache does not need yet, and without",
    "swapping": "A preempted sequence read back from disk, and computed again",
}
HIDDEN = ("key", "seed", "sample_token_ids")
UNITS = {  # endings of names, the longer ones first
    "_tokens_per_s": (1, "{:.2f}", "tok/s"),
    "gbytes_per_s": (1, "{:.2f}", "GB/s"),
    "gflops_per_s": (1, "{:.0f}", "GFLOP/s"),
    "_bytes_per_s": (1e9, "{:.2f}", "GB/s"),
    "_flops_per_s": (1e9, "{:.0f}", "GFLOP/s"),
    "_per_s": (1, "{:.2f}", "/s"),
    "_frac": (0.01, "{:.1f} %", ""),
    "_bytes": (2**20, "{:.1f}", "MiB"),
    "_s": (1e-3, "{:.2f}", "ms"),
}


def rows_table(name: str, result: Row) -> str:
    """All rows of a result file."""
    rows = [flat(row) for row in result["rows"]]
    columns = list(dict.fromkeys(key for row in rows for key in row if is_cell(row[key])))
    same = {key: rows[0][key] for key in columns if is_same(rows, key)} if len(rows) > 1 else {}
    shown = [key for key in columns if key not in same and key not in HIDDEN][:MAX_COLUMNS]
    kind = str(result.get("benchmark", name))
    lines = [f"**{TITLES.get(kind, kind.replace('_', ' ').replace('-', ' '))}**", ""]
    if same:
        told = ", ".join(f"{heading(key)} {cell(key, same[key])}" for key in same)
        lines += [f"In every row: {told}.", ""]
    lines += ["| " + " | ".join(map(heading, shown)) + " |", "|---" * len(shown) + "|"]
    lines += [
        "| " + " | ".join(value_with_spread(row, key) for key in shown) + " |" for row in rows
    ]
    return "\n".join(lines)


def flat(row: Row) -> Row:
    """Nested records as `outer.inner`; lists stay as they are, for they are no cells."""
    return dict(_leaves(row, ""))


def _leaves(row: Row, prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in row.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def is_cell(value: Any) -> bool:
    """Whether a value fits a cell of a table."""
    return value is not None and not isinstance(value, list)


def is_same(rows: list[Row], key: str) -> bool:
    """Whether a column has one value in all rows, and no spread."""
    return all(row.get(key) == rows[0].get(key) and not has_spread(row, key) for row in rows)


def has_spread(row: Row, key: str) -> bool:
    """Whether a value was measured several times."""
    return f"{key}_runs" in row or f"{key}_interval" in row


def heading(key: str) -> str:
    """The name of a column without its unit."""
    for ending, (_, _, unit) in UNITS.items():
        if key.endswith(ending):
            key = f"{key.removesuffix(ending)} {unit}"
            break
    return key.replace("_", " ").replace(".", " ").strip()


def value_with_spread(row: Row, key: str) -> str:
    """A value and its interval, or else the least and the most of its repetitions."""
    runs = row.get(f"{key}_interval") or row.get(f"{key}_runs")
    if not isinstance(runs, list) or len(runs) < 2:
        return cell(key, row.get(key))
    return f"{cell(key, row.get(key))} ({cell(key, min(runs))} to {cell(key, max(runs))})"


def cell(key: str, value: Any) -> str:
    """A value in its unit; nothing for what is missing."""
    if value is None:
        return ""
    if isinstance(value, bool | str):
        return str(value).partition("\n")[0][:80].replace("|", "/")
    for ending, (factor, form, _) in UNITS.items():
        if key.endswith(ending):
            return form.format(value / factor)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
