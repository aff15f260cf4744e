"""The result of a benchmark: its rows, and the machine that they were measured on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks.part_file import write_whole
from benchmarks.testbed import describe

Row = dict[str, Any]


def result_of(benchmark: str, rows: list[Row], bed: Row | None = None, **more: Any) -> Row:
    """What a result file holds; `bed` is a test bed with measured rates, `more` is of the file."""
    return {"benchmark": benchmark, "testbed": bed or describe(), **more, "rows": rows}


def report(
    benchmark: str,
    measured: Iterable[Row],
    file: Path | None,
    *,
    show: Callable[[Row], str] = str,
    earlier: Iterable[Row] = (),
    bed: Row | None = None,
    **more: Any,
) -> Row:
    """Show each row as it is measured and keep it in the file; the result as one line at the end.

    The file is whole after each row, so an interruption loses only the one that was under way.
    """
    result = result_of(benchmark, list(earlier), bed, **more)
    for row in measured:
        print(show(row), flush=True)
        result["rows"].append(row)
        if file:
            write_whole(file, result)
    print(json.dumps(result))
    return result
