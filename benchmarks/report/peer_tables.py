"""Other engines beside ours, a table for each limit, prompt length and format."""

from __future__ import annotations

from benchmarks.peer_rows import is_ours
from benchmarks.report.generic_table import value_with_spread
from benchmarks.report.goal_tables import ratio
from benchmarks.report.peer_figures import grouped, in_format, memory
from benchmarks.report.result_files import Row

CELL_KEYS = ("model", "weight_format", "limit_bytes", "prompt_len", "gen_len", "threads")
OWN_BUDGETS = "in-process"  # the kind of limit where the machine cannot enforce one


def peers(result: Row) -> str:
    """All tables of a comparison."""
    return "\n\n".join(
        cell_table(members) for members in grouped(result["rows"], CELL_KEYS).values()
    )


def cell_table(rows: list[Row]) -> str:
    """Engines at several batch sizes under one limit."""
    first = rows[0]
    model = f"{first['model']}{in_format(first.get('weight_format'))}"
    in_process = any(row.get("limit_kind") == OWN_BUDGETS for row in rows)
    kind = ", budgets kept by the engines" if in_process else ""
    with_ceiling = any("decode_ceiling_frac" in row for row in rows)
    ceiling = " of the ceiling |" if with_ceiling else ""
    lines = [
        f"**{model}, {memory(first.get('limit_bytes'))}{kind}, prompt "
        f"{first['prompt_len']}, {first['gen_len']} tokens, {first['threads']} threads**",
        "",
        f"| batch | engine | decode tok/s |{ceiling} prefill tok/s |{ceiling} "
        "ours is faster in decode by | in prefill by |",
        "|---|---|---|---|---|---|" + "---|---|" * with_ceiling,
    ]
    for row in rows:
        engine = f"{row['peer']} {row.get('version', '')}".strip()
        lines.append(f"| {row['batch']} | {engine} | {cells(row, with_ceiling)} |")
    return "\n".join(lines)


def cells(row: Row, with_ceiling: bool) -> str:
    """Rates and ratio, or what went wrong."""
    if row.get("error"):
        message = row["error"].splitlines()[0][:80].replace("|", "/")
        return " | ".join([f"failed: {message}", *[""] * (5 if with_ceiling else 3)])
    ratios = [
        "" if is_ours(row) else ratio(row, f"ours_over_this_{phase}")
        for phase in ("decode", "prefill")
    ]
    found = []
    for phase in ("decode", "prefill"):
        found.append(value_with_spread(row, f"{phase}_tokens_per_s"))
        if with_ceiling:
            found.append(f"{row[f'{phase}_ceiling_frac']:.0%}")
    return " | ".join([*found, *ratios])
