"""The table of what planning takes."""

from __future__ import annotations

from benchmarks.report.goal_tables import Columns, table
from benchmarks.report.result_files import Row


def planning(result: Row) -> str:
    """Whole commands, and their searches alone."""
    columns: Columns = {
        "whole command (goal 2 s)": lambda row: f"{row['command_s']:.2f} s",
        "of it the search": lambda row: f"{row['search_s']:.2f} s",
        "start of any command": lambda row: f"{row['start_s']:.2f} s",
        "command": lambda row: row["command"],
        "model": lambda row: row["model"],
        "machine": lambda row: row["machine"],
        "prompts": lambda row: str(row["batch"]),
        "GPU memory": lambda row: row["gpu_memory"],
        "CPU memory": lambda row: row["cpu_memory"],
        "formats": lambda row: row["formats"],
    }
    return table("Planning for described machines", columns, result["rows"])
