"""Result files as they lie in a folder, and how to make one that is missing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Row = dict[str, Any]
Results = dict[str, Row]  # by file name without its ending

COMMANDS = {
    "peers": "bench_peers --model .checkpoints/llama-1.1b --limits 1280MiB none",
    "prediction": "bench_prediction",
    "kernels": "bench_kernels",
    "quality": "bench_quality",
    "published": "published",
    "streaming": "bench_streaming --model .checkpoints/llama-1.1b",
    "trace": "bench_trace --model .checkpoints/llama-1.1b --cpu-memory 1280MiB",
    "threads": "bench_threads --model .checkpoints/llama-1.1b",
    "long-context": "bench_long_context --model .checkpoints/llama-1.1b",
    "speculation": "bench_speculation --gen-len 96",
    "prefix": "bench_prefix",
    "replay": "bench_replay",
    "planning": "bench_planning",
}


def load(folder: Path) -> Results:
    """Every result file that can be read, by name; a broken one is as one that is missing."""
    found: Results = {}
    for path in sorted(folder.glob("*.json")):
        try:
            data = json.loads(path.read_text())
        except ValueError:
            continue
        if isinstance(data, dict) and isinstance(data.get("rows"), list):
            found[path.stem] = data
    return found


def command(name: str) -> str:
    """What writes the result file of this name."""
    return f"python -m benchmarks.{COMMANDS[name]} --json benchmarks/results/{name}.json"


def of_kind(results: Results, *kinds: str) -> Results:
    """The files of some benchmarks that have rows; one that names none is known by its own name."""
    return {
        name: result
        for name, result in results.items()
        if result.get("benchmark", name) in kinds and result["rows"]
    }


def rows_of_kind(results: Results, kind: str) -> list[Row]:
    """All rows of a benchmark, whatever its files are called."""
    return [row for result in of_kind(results, kind).values() for row in result["rows"]]


def peer_rows(results: Results) -> Iterator[Row]:
    """Rows of all comparisons with other engines that have figures."""
    yield from (row for row in rows_of_kind(results, "peers") if not row.get("error"))
