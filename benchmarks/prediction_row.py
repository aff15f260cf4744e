"""What the result file says of a point: its plan, its runs, and how far they were predicted."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.pace_meter import Slice
from benchmarks.paced_runs import PHASES, PacedRun
from lm_offload.plan import Figures, Plan
from lm_offload.step_time import StepTime, mean_step

Row = dict[str, Any]


def counted(runs: Sequence[PacedRun]) -> Sequence[PacedRun]:
    """The steady runs, or all where none was."""
    return [one for one in runs if one.steady] or runs


def slices_of(runs: Sequence[PacedRun], phase: str) -> list[Slice]:
    """Around and within the runs that count; those between two runs once."""
    slices = (taken for one in counted(runs) for taken in one.phases[phase].slices)
    return list(dict.fromkeys(slices))


def compared(predicted: Mapping[str, Figures], runs: Sequence[PacedRun]) -> Row:
    """Rates of each phase, and by how much the predicted ones are too high."""
    rates = {phase: f"{phase}_tokens_per_s" for phase in PHASES}
    expected = {phase: getattr(predicted[phase], rate) for phase, rate in rates.items()}
    measured = {
        phase: statistics.median(one.phases[phase].tokens_per_s for one in counted(runs))
        for phase in PHASES
    }
    return {
        "errors": {phase: expected[phase] / measured[phase] - 1 for phase in PHASES},
        "predicted": {rates[phase]: rate for phase, rate in expected.items()},
        "measured": {rates[phase]: rate for phase, rate in measured.items()},
    }


def run_row(run: PacedRun) -> Row:
    """What was measured of one run: rates and mean sweeps of each phase."""
    return {
        "steady": run.steady,
        **{
            phase: {
                "measured": found.tokens_per_s,
                "slices": len(found.slices),
                "measured_step_s": step_row(mean_step((sweep, 1.0) for sweep in found.sweeps)),
            }
            for phase, found in run.phases.items()
        },
    }


def step_row(step: StepTime) -> Row:
    """Seconds of a sweep by resource."""
    names = ("total_s", "cpu_s", "wait_s", "disk_read_s", "read_bytes")
    return {name: getattr(step, name) for name in names}


def plan_row(plan: Plan) -> Row:
    """What of a plan matters to its speed."""
    names = ("max_sequences", "sweep_tokens", "micro_batch_tokens", "ring_bytes", "streamed_bytes")
    return {"budget_bytes": plan.budget_bytes, **{name: getattr(plan, name) for name in names}}
