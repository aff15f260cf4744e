"""One choice of sizes as a whole plan: placed in the budget, with its predicted times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lm_offload.arch.accounting import unit_flops
from lm_offload.arch.config import ModelConfig
from lm_offload.arch.weights import Unit
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
from lm_offload.quant.format import Format


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
    kv_format: Format


def plan_of(request: Request, sizes: Sizes, depth: int) -> Plan | None:
    """The plan with these sizes and a ring of this depth, or None if it does not fit."""
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
        kv_format=str(sizes.kv_format),
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
        decode_sweep_s(request.config, cost, rates, streamed_bytes, sizes, context),
    )


def simulated(request: Request, plan: Plan) -> Plan:
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


def total_s(request: Request, plan: Plan) -> float:
    """Predicted seconds of the whole workload."""
    return workload_s(
        request.workload, plan.max_sequences, plan.predicted_prefill_s, plan.predicted_decode_s
    )
