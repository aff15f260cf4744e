"""The table of what serving costs."""

from __future__ import annotations

from benchmarks.report.goal_tables import Columns, table
from benchmarks.report.result_files import Row
from benchmarks.round_ratio import with_bounds


def server(result: Row) -> str:
    """Tokens by HTTP beside those of one call, by the number of clients."""
    columns: Columns = {
        "clients": lambda row: f"{row['clients']}",
        "by HTTP": lambda row: f"{row['http_tokens_per_s']:.0f} tok/s",
        "of one call of `generate`": lambda row: with_bounds(row, "ratio", ".0%"),
        "more a token": lambda row: f"{_more_s(row) * 1e3:.2f} ms",
        "TTFT": lambda row: f"{row['http_ttft_s'] * 1e3:.0f} ms",
        "prompt, output": lambda row: f"{row['prompt_len']}, {row['gen_len']} tokens",
    }
    return table("The demo model in memory, served to clients that stream", columns, result["rows"])


def _more_s(row: Row) -> float:
    return float(1 / row["http_tokens_per_s"] - 1 / row["python_tokens_per_s"])
