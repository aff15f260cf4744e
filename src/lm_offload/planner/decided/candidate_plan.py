"""A candidate as a decision, in the words of the engine."""

from __future__ import annotations

from dataclasses import replace

from lm_offload.device_plan import DevicePlan
from lm_offload.plan import Figures, Plan, Retention
from lm_offload.planner.places.candidate import Candidate, DevicePlacement
from lm_offload.planner.request import DeviceBudget, Request


def plan_of(
    request: Request, candidate: Candidate, predicted: Figures, retention: Retention | None
) -> Plan:
    """The plan that places units, rows and memory as the candidate does."""
    sizes, (in_memory, on_disk) = candidate.sizes, candidate.expert_names
    return Plan(
        budget_bytes=request.budget_bytes,
        weight_format=str(candidate.model.weight_format),
        kv_format=str(candidate.model.kv_format),
        resident=candidate.names_of(sorted(candidate.residency.resident)) + in_memory,
        streamed=candidate.names_of(sorted(candidate.streamed)) + on_disk,
        table_resident=candidate.table_resident and candidate.model.table_bytes > 0,
        ring_bytes=candidate.residency.ring_bytes,
        expert_ring_bytes=candidate.expert_ring_bytes,
        kv_blocks=sizes.kv_blocks,
        max_sequences=sizes.max_sequences,
        sweep_tokens=sizes.sweep_tokens,
        micro_batch_tokens=sizes.micro_batch_tokens,
        scored_rows=sizes.scored_rows,
        read_block_bytes=candidate.read_block_bytes,
        read_concurrency=candidate.read_concurrency,
        threads=candidate.threads,
        memory=candidate.memory,
        streamed_bytes=candidate.streamed_bytes,
        predicted=predicted,
        draft_rows=sizes.draft_rows,
        spare_sequences=sizes.spare_sequences,
        kept_states=sizes.kept_states,
        spill=sizes.spill,
        retention=retention,
        device=device_plan(request, candidate),
    )


def device_plan(request: Request, candidate: Candidate) -> DevicePlan | None:
    """The part of the device, or of all of them, where there is one."""
    budget, placed = request.device, candidate.device
    if budget is None or placed is None:
        return None
    few_rows = request.profile.gpu.few_rows if request.profile.gpu else 0
    stages = zip(budget.stages, placed.stages, strict=True)
    return replace(
        _part_plan(candidate, budget, placed, few_rows),
        stages=tuple(_part_plan(candidate, *stage, few_rows) for stage in stages),
    )


def _part_plan(
    candidate: Candidate, budget: DeviceBudget, placed: DevicePlacement, few_rows: int
) -> DevicePlan:
    """One device, or the sum of several; `few_rows` as in `Processor`."""
    names_of, sizes = candidate.names_of, candidate.sizes
    return DevicePlan(
        name=budget.name,
        budget_bytes=budget.budget_bytes,
        resident=names_of(sorted(placed.resident)),
        ring_bytes=placed.ring_bytes,
        memory=candidate.memory_on(placed),
        uploaded_bytes=candidate.bytes_of(candidate.uploaded_to(placed)),
        attention=sizes.attention,
        kv_blocks=sizes.device_blocks,
        in_place=names_of(sorted(placed.in_place)),
        in_place_rows=sizes.in_place_rows,
        units=names_of(placed.units),
        begins=names_of(unit for unit in placed.units if unit - 1 not in placed.units),
        replays=placed.replays,
        prompt_blocks=placed.prompt_blocks,
        few_rows=few_rows,
    )
