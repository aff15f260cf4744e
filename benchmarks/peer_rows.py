"""Runs of the engines, their file, and the rows that are made of them: medians, spread, ratios.

A run that was taken in turns with one of ours names that in `beside` and has the same `round`.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.part_file import read_result, write_whole
from benchmarks.peers.case import Case, Row
from benchmarks.peers.environments import ROUNDED, PeerSpec
from benchmarks.round_ratio import quotients, with_interval

OURS = "lm_offload"
PHASES = ("decode", "prefill")
CASE_KEYS = ("model", "batch", "prompt_len", "gen_len", "threads", "limit_bytes")
RATE_KEYS = tuple(f"{phase}_tokens_per_s" for phase in PHASES)
FRAC_KEYS = tuple(f"{phase}_ceiling_frac" for phase in PHASES)
MEDIAN_KEYS = (
    *RATE_KEYS, *(f"{phase}_ceiling_tokens_per_s" for phase in PHASES),
    "memory_read_bytes_per_s", "product_flops_per_s", "disk_read_bytes_per_s",
)  # fmt: skip


class RunFile:
    """All runs so far, written after each; an interrupted file keeps its test bed."""

    def __init__(self, path: Path | None, describe_bed: Callable[[], Row]) -> None:
        self._path = path
        earlier = read_result(path) if path and path.exists() else {}
        self._runs: list[Row] = earlier.get("runs", [])
        self._bed = earlier["testbed"] if self._runs else describe_bed()

    def failed(self, case: Case, spec: PeerSpec) -> bool:
        """Whether a peer has failed in a cell; it is not tried again there."""
        return any(run["peer"] == spec.name and run.get("error") for run in self._of(case))

    def rounds(self, case: Case, spec: PeerSpec) -> list[float]:
        """Our decode rate over a peer's in every round so far; 1 where nothing was beside it."""
        runs = [run for run in self._of(case) if not run.get("error")]
        mine = [run for run in runs if run["peer"] == spec.name]
        return ratios(runs, mine, RATE_KEYS[0]) or [1.0] * len(mine)

    def next_round(self, case: Case) -> int:
        """A number that no run of the cell has yet."""
        return 1 + max((run["round"] for run in self._of(case)), default=-1)

    def add(self, *runs: Row) -> None:
        """Keep runs and write all."""
        self._runs += runs
        if self._path:
            write_whole(self._path, self.result())

    def result(self) -> Row:
        """What the file holds."""
        rows = rows_of(self._runs)
        return {"benchmark": "peers", "testbed": self._bed, "rows": rows, "runs": self._runs}

    def _of(self, case: Case) -> list[Row]:
        wanted = {key: getattr(case, key) for key in CASE_KEYS} | {"model": case.model.name}
        return [run for run in self._runs if all(run[key] == wanted[key] for key in CASE_KEYS)]


def rows_of(runs: list[Row]) -> list[Row]:
    """A row for each peer in each cell, in the order in which they were first run."""
    cells: dict[tuple[Any, ...], dict[str, list[Row]]] = {}
    for run in runs:
        key = (run["weight_format"], *(run[key] for key in CASE_KEYS))
        cells.setdefault(key, {}).setdefault(run["peer"], []).append(run)
    return [row for cell in cells.values() for row in cell_rows(cell)]


def cell_rows(cell: dict[str, list[Row]]) -> list[Row]:
    """The rows of one cell, each with our rate over its own where both have one."""
    every = [run for members in cell.values() for run in members if not run.get("error")]
    rows = []
    for members in cell.values():
        good = [run for run in members if not run.get("error")]
        row = median_row(members)
        for phase, key in zip(PHASES, RATE_KEYS, strict=True):
            found = ratios(every, good, key)
            row |= with_interval(f"ours_over_this_{phase}", found) if found else {}
        rows.append(row)
    return rows


def median_row(runs: list[Row]) -> Row:
    """One row of all runs of an engine: medians of the rates, or the error of the last run."""
    good = [run for run in runs if not run.get("error")]
    left_out = ("round", "beside")
    last = {key: value for key, value in (good or runs)[-1].items() if key not in left_out}
    if not good:
        return last
    medians = {
        key: statistics.median(run[key] for run in good)
        for key in MEDIAN_KEYS
        if good[0].get(key) is not None
    }
    for key in FRAC_KEYS:
        medians |= with_interval(key, [run[key] for run in good])
    every = {f"{key}_runs": [run[key] for run in good] for key in RATE_KEYS}
    counts = {"rounds": len(good), "failed_runs": len(runs) - len(good)}
    return {**last, **medians, **every, **counts}


def is_ours(row: Row) -> bool:
    """Whether others are compared with it: not where activations are rounded as well."""
    return row["peer"].startswith(OURS) and not row["peer"].endswith(ROUNDED)


def ratios(runs: list[Row], mine: list[Row], key: str) -> list[float]:
    """Our figure over that of `mine` in each round that both took in turns."""
    names = {run["peer"] for run in mine}
    ours = {
        run["round"]: run[key]
        for run in runs
        if is_ours(run) and run["peer"] not in names and run.get("beside") in names
    }
    both = [run for run in mine if run["round"] in ours and "beside" in run]
    return quotients([ours[run["round"]] for run in both], [run[key] for run in both])


def summary(row: Row) -> str:
    """One run on one line."""
    start = f"prompt {row['prompt_len']:>4} batch {row['batch']:>3} {row['peer']:<19}"
    if row.get("error"):
        return f"{start} failed: {row['error']}"
    peak_bytes = row.get("cgroup_peak_bytes") or row["peak_rss_bytes"]
    return (
        f"{start} decode {row['decode_tokens_per_s']:8.2f} tok/s, prefill "
        f"{row['prefill_tokens_per_s']:8.1f} tok/s, peak {peak_bytes / 2**20:.0f} MiB"
    )
