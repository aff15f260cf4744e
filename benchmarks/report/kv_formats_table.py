"""The plan of each KV format in the same budget, the chosen one marked."""

from __future__ import annotations

from benchmarks.report.goal_tables import Columns, mib, ratio, table
from benchmarks.report.result_files import Row


def kv_formats(result: Row) -> str:
    """One line for each format of each case."""
    columns: Columns = {
        "KV format": lambda one: one["kv_format"],
        "chosen": lambda one: _verdict(one) if one["kv_format"] == one["chosen"] else "",
        "decode": lambda one: f"{one['tokens_per_s']:.1f} tok/s",
        "predicted": lambda one: f"{one['predicted_tokens_per_s']:.1f}",
        "sequences x context": lambda one: f"{one['batch']} x {one['context']}",
        "memory for weights, bf16 cache": lambda one: (
            f"{one['weights_frac']:.0%}, {one['cache_frac']:.0%}"
        ),
        "in flight": lambda one: f"{one['in_flight']}",
        "layers on disk": lambda one: f"{one['layers_on_disk']}",
        "weights read each sweep": lambda one: mib(one["streamed_bytes"]),
        "model": lambda one: one["model"],
    }
    rows = [{**row, **one} for row in result["rows"] for one in row["formats"]]
    title = "Formats of the KV cache in the same budget, and which one the planner chooses"
    return table(title, columns, rows)


def _verdict(row: Row) -> str:
    gain, loss = ratio(row, "speedup_over_bf16"), ratio(row, "loss")
    return f"**yes**: {gain} bf16, {loss} the time of the fastest"
