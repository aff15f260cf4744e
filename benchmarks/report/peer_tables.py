"""Other engines beside ours, a table for each limit, prompt length and format."""

from __future__ import annotations

from benchmarks.peer_rows import OURS, PHASES
from benchmarks.report.engine_names import is_variant, name_and_version
from benchmarks.report.generic_table import value_with_spread
from benchmarks.report.goal_tables import noise, ratio
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
    with_ceiling = any("decode_ceiling_frac" in row for row in rows)
    ceiling = " of the ceiling |" if with_ceiling else ""
    lines = [
        f"**{title(rows)}**",
        "",
        f"| batch | engine | decode tok/s |{ceiling} prefill tok/s |{ceiling} "
        "LM-Offload is faster in decode by | in prefill by |",
        "|---|---|---|---|---|---|" + "---|---|" * with_ceiling,
    ]
    for row in sorted(rows, key=lambda row: int(row["batch"])):
        found = cells(row, with_ceiling)
        lines.append(f"| {row['batch']} | {name_and_version(row)} | {found} |")
    variants = [row for row in rows if is_variant(row["peer"]) and not row.get("error")]
    return "\n".join([*lines, *variant_lines(variants)])


def title(rows: list[Row]) -> str:
    """What all rows have in common."""
    first = rows[0]
    kept = ", kept by the engines themselves"
    in_process = kept if any(row.get("limit_kind") == OWN_BUDGETS for row in rows) else ""
    return (
        f"{first['model']}{in_format(first.get('weight_format'))}, "
        f"{memory(first.get('limit_bytes'))}{in_process}: prompts of {first['prompt_len']} tokens, "
        f"{first['gen_len']} generated, {first['threads']} threads"
    )


def cells(row: Row, with_ceiling: bool) -> str:
    """Rates and ratio, or what went wrong."""
    if row.get("error"):
        message = row["error"].splitlines()[0][:80].replace("|", "/")
        return " | ".join([f"failed: {message}", *[""] * (5 if with_ceiling else 3)])
    ratios = [
        "" if row["peer"].startswith(OURS) else ratio(row, f"ours_over_this_{phase}")
        for phase in PHASES
    ]
    found = []
    for phase in PHASES:
        found.append(value_with_spread(row, f"{phase}_tokens_per_s"))
        if with_ceiling:
            found.append(f"{row[f'{phase}_ceiling_frac']:.0%}")
    return " | ".join([*found, *ratios])


def variant_lines(rows: list[Row]) -> list[str]:
    """How much faster it is to round activations as well; nothing where that was not measured."""
    told = [
        f"{variant_ratio(row, 'decode')} in decode and {variant_ratio(row, 'prefill')} in prefill "
        f"at batch {row['batch']}"
        for row in rows
        if all(f"ours_over_this_{phase}" in row for phase in PHASES)
    ]
    if not told:
        return []
    return ["", f"LM-Offload with 8-bit activations, over LM-Offload without: {'; '.join(told)}."]


def variant_ratio(row: Row, phase: str) -> str:
    """Its speed over that of the exact one, and half of the interval."""
    key = f"ours_over_this_{phase}"
    return f"{1 / row[key]:.2f}x{noise(row, key)}"
