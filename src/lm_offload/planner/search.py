"""Chooses the plan with the shortest predicted time among those that fit the budget."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from lm_offload.arch.accounting import unit_flops
from lm_offload.arch.config import ModelConfig
from lm_offload.arch.weights import Unit
from lm_offload.errors import BudgetError
from lm_offload.kvcache.cache import blocks_for
from lm_offload.plan import MachineRates, Plan, Workload
from lm_offload.planner.memory import Sizes, memory_table
from lm_offload.planner.residency import Residency, choose_residency
from lm_offload.planner.simulator import steady_sweep_s
from lm_offload.planner.step_time import (
    ModelCost,
    compute_s_of,
    decode_sweep_s,
    prefill_s,
    workload_s,
)
from lm_offload.units import KIB, format_bytes

MICRO_BATCH_TOKENS = (512, 256, 128, 64, 16, 1)
SWEEP_TOKENS = (8192, 2048, 512, 128, 16, 1)
RING_DEPTHS = (3, 2, 1)
SCORED_ROWS = 64  # logits at once where those of prompts are wanted
SIMULATED = 24  # plans whose decode is timed again by simulation


@dataclass(frozen=True)
class UnitSize:
    """One unit as the planner sees it: its memory in the layout of its files."""

    unit: Unit
    size_bytes: int


@dataclass(frozen=True)
class Request:
    """Everything a plan is made from."""

    config: ModelConfig
    units: Sequence[UnitSize]
    table_bytes: int  # of an embedding table that could be resident, 0 where it is tied
    workload: Workload
    rates: MachineRates
    budget_bytes: int


def make_plan(request: Request) -> Plan:
    """The fastest plan; raises BudgetError with the table of bytes if none fits."""
    plans = (_plan(request, sizes, depth) for sizes, depth in _choices(request))
    fitting = [plan for plan in plans if plan is not None]
    if not fitting:
        raise BudgetError(_smallest_need(request))
    best = sorted(fitting, key=lambda plan: (_total_s(request, plan), plan.used_bytes))
    simulated = [_simulated(request, plan) for plan in best[:SIMULATED]]
    return min(simulated, key=lambda plan: _total_s(request, plan))


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
                yield Sizes(blocks, in_flight, sweep_tokens, micro, extra), depth


def _in_flight_options(num_sequences: int) -> list[int]:
    powers = [1 << exponent for exponent in range(num_sequences.bit_length())]
    return sorted({min(option, num_sequences) for option in [*powers, num_sequences]})


def _blocks_needed(workload: Workload, in_flight: int) -> int:
    longest = sorted(workload.total_lens)[-in_flight:]
    return sum(blocks_for(length) for length in longest)


def _plan(request: Request, sizes: Sizes, depth: int) -> Plan | None:
    with_table = _place(request, sizes, depth, table_resident=True)
    if with_table is not None and not with_table.streamed:
        return with_table
    return _place(request, sizes, depth, table_resident=False)


def _place(request: Request, sizes: Sizes, depth: int, table_resident: bool) -> Plan | None:
    table = memory_table(request.config, sizes, table_resident)
    table_bytes = request.table_bytes if table_resident else 0
    left_bytes = request.budget_bytes - sum(row[1] for row in table) - table_bytes
    unit_bytes = [unit.size_bytes for unit in request.units]
    residency = choose_residency(unit_bytes, left_bytes, depth) if left_bytes > 0 else None
    if residency is None:
        return None
    return _assemble(request, sizes, residency, table, table_bytes)


def _assemble(
    request: Request,
    sizes: Sizes,
    residency: Residency,
    table: tuple[tuple[str, int], ...],
    table_bytes: int,
) -> Plan:
    indices = range(len(request.units))
    streamed = [index for index in indices if index not in residency.resident]
    streamed_bytes = sum(request.units[index].size_bytes for index in streamed)
    resident_bytes = sum(request.units[index].size_bytes for index in residency.resident)
    prefill, decode = _predict(request, sizes, streamed_bytes)
    return Plan(
        budget_bytes=request.budget_bytes,
        resident=tuple(request.units[index].unit.name for index in sorted(residency.resident)),
        streamed=tuple(request.units[index].unit.name for index in streamed),
        table_resident=table_bytes > 0,
        ring_bytes=residency.ring_bytes,
        kv_blocks=sizes.kv_blocks,
        max_sequences=sizes.max_sequences,
        sweep_tokens=sizes.sweep_tokens,
        micro_batch_tokens=sizes.micro_batch_tokens,
        read_block_bytes=request.rates.read_block_bytes,
        read_concurrency=request.rates.read_concurrency,
        memory=(
            ("resident weights", resident_bytes + table_bytes),
            ("staging ring", residency.ring_bytes),
            *table,
        ),
        streamed_bytes=streamed_bytes,
        predicted_prefill_s=prefill,
        predicted_decode_s=decode,
        scored_rows=sizes.scored_rows,
    )


def _predict(request: Request, sizes: Sizes, streamed_bytes: int) -> tuple[float, float]:
    cost = ModelCost(
        weight_bytes=sum(unit.size_bytes for unit in request.units),
        flops_per_row=sum(unit_flops(unit.unit) for unit in request.units),
        num_units=len(request.units),
    )
    workload, rates = request.workload, request.rates
    rows = sum(sorted(workload.prompt_lens)[-sizes.max_sequences :])
    if workload.scored_tokens:  # one sweep gives as many scored tokens as it has logits
        sizes = replace(sizes, sweep_tokens=min(sizes.sweep_tokens, sizes.scored_rows or 1))
    context = max(workload.total_lens)
    return (
        prefill_s(cost, rates, streamed_bytes, rows, sizes),
        decode_sweep_s(request.config, cost, rates, streamed_bytes, sizes.max_sequences, context),
    )


def _simulated(request: Request, plan: Plan) -> Plan:
    """The plan with the decode that the executor's own task sequence would take."""
    streamed = set(plan.streamed)
    streamed_bytes = {
        index: unit.size_bytes
        for index, unit in enumerate(request.units)
        if unit.unit.name in streamed
    }
    costs = [ModelCost(unit.size_bytes, unit_flops(unit.unit), 1) for unit in request.units]
    compute_s = [compute_s_of(cost, request.rates, plan.max_sequences, 1) for cost in costs]
    decode_s = steady_sweep_s(
        plan.ring_bytes, streamed_bytes, request.rates.disk_read_bytes_per_s, compute_s
    )
    return replace(plan, predicted_decode_s=max(decode_s, plan.predicted_decode_s))


def _total_s(request: Request, plan: Plan) -> float:
    return workload_s(
        request.workload, plan.max_sequences, plan.predicted_prefill_s, plan.predicted_decode_s
    )


def smallest_memory(request: Request) -> tuple[tuple[str, int], ...]:
    """Purpose and bytes of the smallest plan: one sequence, row by row, one unit staged."""
    sizes = Sizes(_blocks_needed(request.workload, 1), 1, 1, 1)
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
