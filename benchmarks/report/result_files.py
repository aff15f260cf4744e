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


def peer_rows(results: Results) -> Iterator[Row]:
    """Rows of all comparisons with other engines that have figures."""
    for data in results.values():
        if data.get("benchmark") == "peers":
            yield from (row for row in data["rows"] if not row.get("error"))
