"""Runs of the engines, their file, and the rows that are made of them: medians, spread, ratios."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks.part_file import write_whole
from benchmarks.peers.case import Case, Row
from benchmarks.peers.environments import ROUNDED, PeerSpec

OURS = "lm_offload"
PHASES = ("decode", "prefill")
CASE_KEYS = ("model", "batch", "prompt_len", "gen_len", "threads", "limit_bytes")
RATE_KEYS = tuple(f"{phase}_tokens_per_s" for phase in PHASES)
FRAC_KEYS = tuple(f"{phase}_ceiling_frac" for phase in PHASES)
MEDIAN_KEYS = (
    *RATE_KEYS, *FRAC_KEYS, *(f"{phase}_ceiling_tokens_per_s" for phase in PHASES),
    "memory_read_bytes_per_s", "product_flops_per_s", "disk_read_bytes_per_s",
)  # fmt: skip


class RunFile:
    """All runs so far, written after each; an interrupted file keeps its test bed."""

    def __init__(self, path: Path | None, describe_bed: Callable[[], Row]) -> None:
        self._path = path
        earlier = json.loads(path.read_text()) if path and path.exists() else {}
        self._runs: list[Row] = earlier.get("runs", [])
        self._bed = earlier["testbed"] if self._runs else describe_bed()

    def missing(self, round_index: int, case: Case, specs: Iterable[PeerSpec]) -> list[PeerSpec]:
        """The peers without a run of this round; one that failed in a cell is not tried again."""
        mine = [
            run for run in self._runs if all(run[key] == _value(case, key) for key in CASE_KEYS)
        ]
        done = {run["peer"] for run in mine if run["round"] == round_index or run.get("error")}
        return [spec for spec in specs if spec.name not in done]

    def add(self, run: Row) -> None:
        """Keep a run and write all."""
        self._runs.append(run)
        if self._path:
            write_whole(self._path, self.result())

    def result(self) -> Row:
        """What the file holds."""
        rows = rows_of(self._runs)
        return {"benchmark": "peers", "testbed": self._bed, "rows": rows, "runs": self._runs}


def _value(case: Case, key: str) -> object:
    return case.model.name if key == "model" else getattr(case, key)


def rows_of(runs: list[Row]) -> list[Row]:
    """A row for each peer in each cell, in the order in which they were first run."""
    cells: dict[tuple, dict[str, list[Row]]] = {}
    for run in runs:
        key = (run["weight_format"], *(run[key] for key in CASE_KEYS))
        cells.setdefault(key, {}).setdefault(run["peer"], []).append(run)
    rows: list[Row] = []
    for cell in cells.values():
        rows += with_ratios([median_row(members) for members in cell.values()])
    return rows


def median_row(runs: list[Row]) -> Row:
    """One row of all runs of an engine: medians of the rates, or the error of the last run."""
    good = [run for run in runs if not run.get("error")]
    last = {key: value for key, value in (good or runs)[-1].items() if key != "round"}
    if not good:
        return last
    medians = {
        key: statistics.median(run[key] for run in good)
        for key in MEDIAN_KEYS
        if good[0].get(key) is not None
    }
    every = {f"{key}_runs": [run[key] for run in good] for key in (*RATE_KEYS, *FRAC_KEYS)}
    rounds = [run["round"] for run in good]
    return {**last, **medians, **every, "rounds": rounds, "failed_runs": len(runs) - len(good)}


def with_ratios(rows: list[Row]) -> list[Row]:
    """Each row of a cell with our rate over its own, where both have one."""
    good = [row for row in rows if not row.get("error")]
    for ours in filter(is_ours, good):
        for row in good:
            for phase, key in zip(PHASES, RATE_KEYS, strict=True):
                row[f"ours_over_this_{phase}"] = round(ratio(ours, row, f"{key}_runs"), 3)
    return rows


def is_ours(row: Row) -> bool:
    """Whether others are compared with it: not where activations are rounded as well."""
    return row["peer"].startswith(OURS) and not row["peer"].endswith(ROUNDED)


def ratio(ours: Row, other: Row, key: str) -> float:
    """The median of the quotients of each round: a machine that drifts drifts for both."""
    mine, others = (dict(zip(row["rounds"], row[key], strict=True)) for row in (ours, other))
    both = mine.keys() & others.keys()
    if both:
        return statistics.median(mine[each] / others[each] for each in both)
    return statistics.median(mine.values()) / statistics.median(others.values())


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
