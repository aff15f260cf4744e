"""Decode with streamed weights kept in KV memory that is not used yet, against leaving it empty.

The plan is made for long outputs and the first sweeps are measured, in turns on one engine with
half of the checkpoint as budget; the shares of the memory are the same both ways::

    python -m benchmarks.bench_retention --model .checkpoints/llama-0.25b --json out.json
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from benchmarks.engine_turns import Row, compared, engine_of, sequences_of
from benchmarks.entry import result_parser, run
from benchmarks.result import report
from benchmarks.weight_files import weight_file_bytes
from lm_offload import LLM, Workload
from lm_offload.engine.engine import Engine
from lm_offload.kvcache.growing_cache import GrowingCache
from lm_offload.pipeline.retention import NOTHING_RETAINED, Retained, Retainer
from lm_offload.planner.choose.search import make_plan
from lm_offload.sequence import Batch

PROMPT_LEN, GEN_LEN = 16, 400
SWEEPS, WARM_UP = 20, 6  # of a turn; units that are given up or taken in are read meanwhile


@dataclass(frozen=True)
class Case:
    """One checkpoint; `budget_frac` is of its bytes."""

    model: Path
    batch: int
    budget_frac: float
    threads: int

    @property
    def budget_bytes(self) -> int:
        """A part of the checkpoint's bytes."""
        return int(weight_file_bytes(self.model) * self.budget_frac)


class SwitchedRetention:
    """Decides as an engine does, or keeps nothing."""

    def __init__(self, retention: Retainer, cache: GrowingCache) -> None:
        self._retention, self._cache = retention, cache
        self._allowed = True

    def switch(self, allowed: bool) -> None:
        """From now on; what is kept is given up first."""
        self._retention._keep(0)
        self._allowed = allowed

    def prepare(self, batch: Batch) -> Retained:
        """What an engine asks for before each sweep."""
        if self._allowed:
            return self._retention.prepare(batch)
        self._cache.hold(batch.chunks)
        return NOTHING_RETAINED


def main() -> None:
    """Measure every batch and print a row each."""
    parser = result_parser(__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--budget-frac", type=float, default=0.5)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    sizes = args.budget_frac, args.threads
    cases = (Case(args.model, batch, *sizes) for batch in args.batches)
    report("retention", (measure(case, args.rounds) for case in cases), args.json)


def measure(case: Case, rounds: int) -> Row:
    """Both ways in turns; only the plan's sizes where its KV cache lends no memory."""
    how: dict[str, Any] = {
        "threads": case.threads, "prefix_sharing": False, "speculation": "off",
    }  # fmt: skip
    with LLM(case.model, cpu_memory=case.budget_bytes, **how) as llm:
        workload = Workload((PROMPT_LEN,) * case.batch, (GEN_LEN,) * case.batch)
        plan = make_plan(replace(llm._request(workload), spill_bytes=0))  # no KV cache on disk
        row = {
            "model": case.model.name,
            "batch": case.batch,
            "budget_frac": case.budget_frac,
            "kv_format": plan.kv_format,
            "kv_bytes": dict(plan.memory)["KV cache"],
            "streamed_bytes": plan.streamed_bytes,
        }
        with engine_of(llm, plan) as engine:
            found = switched(llm, engine, case, rounds)
    order = ("model", "batch", "kv_format", *found)
    row |= found
    return {key: row[key] for key in (*order, *(key for key in row if key not in order))}


def switched(llm: LLM, engine: Engine, case: Case, rounds: int) -> Row:
    """What retention changes on an engine."""
    parts = engine.machinery
    if parts.retention is None or not isinstance(parts.cache, GrowingCache):
        return {"note": "this plan lends no KV memory"}
    retention = SwitchedRetention(parts.retention, parts.cache)
    engine.machinery = replace(parts, retention=cast("Retainer", retention))
    read_bytes: dict[bool, list[float]] = {True: [], False: []}

    def turn(allowed: bool) -> float:
        retention.switch(allowed)
        engine.add(sequences_of(llm, case.batch, PROMPT_LEN, GEN_LEN))
        engine.records.clear()
        for _ in range(SWEEPS):
            engine.step()
        parts.scheduler.drop_all()
        times = [record.time for record in engine.records[WARM_UP:]]
        read_bytes[allowed].append(statistics.mean(time.read_bytes for time in times))
        return statistics.mean(time.total_s for time in times)

    found = compared(turn, rounds)
    reads = {"read_bytes": read_bytes[True], "read_without_bytes": read_bytes[False]}
    return found | {key: round(statistics.median(some)) for key, some in reads.items()}


if __name__ == "__main__":
    run(main)
