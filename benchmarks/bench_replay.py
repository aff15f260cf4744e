"""Decode sweeps with units replayed from recordings against the same ones called from Python.

Both ways take turns on one engine; everything is in memory and the KV cache counts as filled::

    python -m benchmarks.bench_replay --model .checkpoints/llama-1.1b --json out.json
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.engine_turns import Row, compared, engine_of, sequences_of
from benchmarks.entry import result_parser, run
from benchmarks.result import report
from lm_offload import LLM, Workload
from lm_offload.demo import demo_path
from lm_offload.engine.engine import Engine

if TYPE_CHECKING:
    from lm_offload.kernels.base import Kernels, Recording

CONTEXT, GEN_LEN = 64, 128
SWEEPS, WARM_UP = 8, 2  # of a turn; the first one computes and the second one records


@dataclass(frozen=True)
class Case:
    """One model in one format at one batch."""

    model: Path
    weight_format: str | None
    batch: int


class SwitchedRecording:
    """Kernels that are recorded as long as that is allowed."""

    def __init__(self, kernels: Kernels) -> None:
        self._kernels = kernels
        self.allowed = True

    def record(self) -> Recording | None:
        """As the kernels do, or nothing."""
        return self._kernels.record() if self.allowed else None

    def with_threads(self, compute: int, attention: int) -> SwitchedRecording:
        """Itself, on other threads."""
        self._kernels = self._kernels.with_threads(compute, attention)
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kernels, name)


def main() -> None:
    """Measure every case and print a row each."""
    parser = result_parser(__doc__)
    parser.add_argument("--model", type=Path, default=Path(".checkpoints/llama-1.1b"))
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    cases = [Case(demo_path(), None, 1), Case(demo_path(), None, 16)]
    if args.model.is_dir():
        cases += [Case(args.model, format, 1) for format in (None, "int4:64")]
    report("replay", (measure(case, args.rounds) for case in cases), args.json)


def measure(case: Case, rounds: int) -> Row:
    """Both ways in turns."""
    with LLM(case.model, weight_format=case.weight_format, speculation="off") as llm:
        plan = llm.plan_for(Workload((CONTEXT,) * case.batch, (GEN_LEN,) * case.batch))
        kernels = SwitchedRecording(llm.kernels)
        with engine_of(llm, plan, kernels=kernels) as engine:

            def turn(replayed: bool) -> float:
                kernels.allowed = replayed
                engine.machinery.runner.forget()
                return sweep_s(llm, engine, case)

            found = compared(turn, rounds)
    named = {"model": case.model.name, "weight_format": case.weight_format or "own"}
    return {**named, "batch": case.batch, "context": CONTEXT, **found}


def sweep_s(llm: LLM, engine: Engine, case: Case) -> float:
    """Mean seconds of a sweep."""
    seconds = []
    for _ in range(SWEEPS):
        if not engine.has_work:
            engine.add(sequences_of(llm, case.batch, CONTEXT, GEN_LEN, computed=CONTEXT - 1))
        engine.records.clear()
        engine.step()
        seconds.append(engine.records[-1].time.total_s)
    return statistics.mean(seconds[WARM_UP:])


if __name__ == "__main__":
    run(main)
