"""A plan that somebody decided: checked against model and budget, and predicted."""

from __future__ import annotations

from dataclasses import replace

from lm_offload.errors import ConfigError
from lm_offload.plan import KVSpill, Plan, ThreadPlan
from lm_offload.planner.choose.common import Common
from lm_offload.planner.choose.predictor import Predictor, Timed
from lm_offload.planner.costs.expert_sizes import ExpertPlacement
from lm_offload.planner.costs.memory import Sizes, memory_table
from lm_offload.planner.costs.model_sizes import ModelSizes
from lm_offload.planner.costs.ring_depth import RingDepth
from lm_offload.planner.decided.fixed_checks import (
    check_budget,
    check_retention,
    check_sizes,
    check_units,
    check_workload,
)
from lm_offload.planner.decided.fixed_device import check_device, fixed_on_device
from lm_offload.planner.decided.plan_choice import PlanChoice, choice_of
from lm_offload.planner.places.candidate import Candidate
from lm_offload.planner.places.residency import Residency
from lm_offload.planner.request import Request, in_units


def fixed_plan(request: Request, choice: PlanChoice, common: Common | None = None) -> Plan:
    """The plan for the request's workload; raises ConfigError for one that cannot hold."""
    return fixed_timed(request, choice, common).plan


def fixed_timed(request: Request, choice: PlanChoice, common: Common | None = None) -> Timed:
    """The same with the seconds that the objective counts."""
    model = _model(request, choice)
    if choice.device is None:
        model = in_units(model, (*choice.resident, *choice.streamed))
    if model.config.recurrent is not None and not choice.kept_states:
        request = replace(request, workload=replace(request.workload, shared_lens=()))
    check_units(model, choice)
    check_sizes(model, choice)
    check_workload(request.workload, choice)
    check_device(request, choice)
    candidate = candidate_of(model, choice, threads_of(request, choice))
    if choice.device is not None:
        candidate = fixed_on_device(request, candidate, choice.device)
    check_budget(candidate, min(choice.budget, request.budget_bytes))
    check_retention(candidate, choice)
    predictor = Predictor(request, common or Common())
    timed = predictor.timed_best if choice.retention is None else predictor.timed
    return timed(candidate)


def candidate_of(model: ModelSizes, choice: PlanChoice, threads: ThreadPlan) -> Candidate:
    """A choice as the planner times it."""
    named = frozenset(choice.resident)
    resident = frozenset(
        index
        for index, sized in enumerate(model.units)
        if sized.unit.name in named or sized.size_bytes == 0  # there is nothing to read
    )
    sizes = sizes_of_choice(choice, threads.compute)
    tied = not model.table_bytes and len(resident) == len(model.units)  # to a head in memory
    candidate = Candidate(
        model=model,
        sizes=sizes,
        ring_depth=RingDepth(0),
        residency=Residency(resident, choice.ring),
        table_resident=choice.table_resident,
        other_memory=memory_table(model, sizes, choice.table_resident or tied),
        read_block_bytes=choice.read_block,
        read_concurrency=choice.read_concurrency,
        threads=threads,
        experts=_experts(model, choice),
    )
    return replace(candidate, lends=bool(choice.retention) and candidate.can_lend)


def _experts(model: ModelSizes, choice: PlanChoice) -> ExpertPlacement | None:
    """Those of the choice that are in memory, if any are not."""
    experts, named = model.experts, frozenset(choice.resident)
    if experts is None or named.issuperset(experts.names):
        return None
    numbers = (number for number, name in enumerate(experts.names) if name in named)
    return ExpertPlacement(frozenset(numbers), choice.expert_ring)


def candidate_of_plan(request: Request, plan: Plan) -> Candidate:
    """A plan that was made for `request`, as the planner times it."""
    return candidate_of(request.model_of(plan), choice_of(plan), plan.threads)


def sizes_of_choice(choice: PlanChoice, threads: int) -> Sizes:
    """What of a choice memory other than weights depends on."""
    return Sizes(
        choice.kv_blocks,
        choice.max_sequences,
        choice.sweep_tokens,
        choice.micro_batch_tokens,
        choice.scored_rows,
        choice.draft_rows,
        choice.spare_sequences,
        choice.kept_states,
        spill=KVSpill(choice.kv_on_disk, choice.kv_group_blocks, choice.kv_ring_blocks),
        attention=choice.device.attention if choice.device else "device",
        device_blocks=choice.device.kv_blocks if choice.device else 0,
        in_place_rows=choice.device.in_place_rows if choice.device else 0,
        in_place_layers=choice.device.in_place_layers if choice.device else 0,
        threads=threads,
    )


def threads_of(request: Request, choice: PlanChoice) -> ThreadPlan:
    """Those that were asked for, those of the plan, or every core."""
    threads, cores = choice.threads, request.profile.cpu.threads
    if request.threads is not None or threads is None:
        return request.default_threads
    most = max(threads.compute, threads.attention, threads.sampling)
    if most > cores:
        raise ConfigError(
            f"In the plan a kind of task has {most} threads, allowed are 1 to {cores}, the cores "
            "that cgroup and affinity leave to this process; change threads or give --threads."
        )
    return threads


def _model(request: Request, choice: PlanChoice) -> ModelSizes:
    alike = [model for model in request.models if str(model.weight_format) == choice.weight_format]
    for model in alike:
        if str(model.kv_format) == choice.kv_format:
            return model
    if alike:
        allowed = ", ".join(str(model.kv_format) for model in alike)
        raise ConfigError(
            f"The plan keeps the KV cache in {choice.kv_format}, allowed for this model is "
            f"{allowed}; change kv_format."
        )
    allowed = ", ".join(dict.fromkeys(str(model.weight_format) for model in request.models))
    raise ConfigError(
        f"The plan has weights in {choice.weight_format}, allowed here is {allowed}; change "
        "weight_format in the plan or give --weight-format."
    )
