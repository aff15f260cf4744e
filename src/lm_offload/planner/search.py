"""Chooses the plan with the shortest predicted time among those that fit the budget."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

from lm_offload.errors import BudgetError
from lm_offload.kvcache.cache import blocks_for
from lm_offload.plan import Plan, Workload
from lm_offload.planner.candidate import Request, plan_of, simulated, total_s
from lm_offload.planner.memory import Sizes, memory_table
from lm_offload.units import KIB, format_bytes

MICRO_BATCH_TOKENS = (512, 256, 128, 64, 16, 1)
SWEEP_TOKENS = (8192, 2048, 512, 128, 16, 1)
RING_DEPTHS = (3, 2, 1)
SCORED_ROWS = 64  # logits at once where those of prompts are wanted
TIE = 1.01  # predictions closer than this are the same
SIMULATED = 24  # plans whose decode is timed again by simulation


def make_plan(request: Request) -> Plan:
    """The fastest plan; raises BudgetError with the table of bytes if none fits."""
    plans = (plan_of(request, sizes, depth) for sizes, depth in _choices(request))
    fitting = [plan for plan in plans if plan is not None]
    if not fitting:
        raise BudgetError(_smallest_need(request))
    best = sorted(fitting, key=lambda plan: _rank(request, plan))
    timed = [simulated(request, plan) for plan in best[:SIMULATED]]
    return min(timed, key=lambda plan: _rank(request, plan))


def _rank(request: Request, plan: Plan) -> tuple[int, int, int, int]:
    """Time in steps of one per cent; among equals more rows at once, which start together."""
    steps = round(math.log(total_s(request, plan)) / math.log(TIE))
    return steps, -plan.sweep_tokens, -plan.micro_batch_tokens, plan.used_bytes


def _choices(request: Request) -> Iterator[tuple[Sizes, int]]:
    """Sequences in flight, rows of a sweep and of a micro-batch, depth of the ring."""
    for in_flight in _in_flight_options(len(request.workload.prompt_lens)):
        blocks = _blocks_needed(request.workload, in_flight)
        rows = sum(sorted(request.workload.prompt_lens)[-in_flight:])
        sweeps = sorted({max(min(option, rows), in_flight) for option in SWEEP_TOKENS})
        for sweep_tokens in sweeps:
            micros = sorted({min(option, sweep_tokens) for option in MICRO_BATCH_TOKENS})
            scored = sorted({0, min(SCORED_ROWS, request.workload.scored_tokens)})
            for micro, depth, extra in itertools.product(micros, RING_DEPTHS, scored):
                yield Sizes(blocks, in_flight, sweep_tokens, micro, request.kv_format, extra), depth


def _in_flight_options(num_sequences: int) -> list[int]:
    powers = [1 << exponent for exponent in range(num_sequences.bit_length())]
    return sorted({min(option, num_sequences) for option in [*powers, num_sequences]})


def _blocks_needed(workload: Workload, in_flight: int) -> int:
    longest = sorted(workload.total_lens)[-in_flight:]
    return sum(blocks_for(length) for length in longest)


def smallest_memory(request: Request) -> tuple[tuple[str, int], ...]:
    """Purpose and bytes of the smallest plan: one sequence, row by row, one unit staged."""
    sizes = Sizes(_blocks_needed(request.workload, 1), 1, 1, 1, request.kv_format)
    ring_bytes = max(unit.size_bytes for unit in request.units)
    rows = memory_table(request.config, sizes, table_resident=False)
    return (("staging ring", ring_bytes), *rows)


def _smallest_need(request: Request) -> str:
    """The message of the error: the smallest plan's bytes by purpose, and its sum."""
    rows = smallest_memory(request)
    needed_kib = -(-sum(size_bytes for _, size_bytes in rows) // KIB)
    lines = "".join(f"\n  {purpose:<22}{format_bytes(size)}" for purpose, size in rows)
    return (
        f"A CPU memory budget of {format_bytes(request.budget_bytes)} was given, the smallest that "
        f"works for this model and these prompts is {needed_kib} KiB; raise "
        f"--cpu-memory or shorten the prompts or outputs:{lines}"
    )
