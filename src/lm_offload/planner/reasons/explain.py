"""Why a plan: what bounds it, what the machine allows at best, what would help, what lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from lm_offload.plan import Plan, ThreadPlan
from lm_offload.planner.choose.common import Common
from lm_offload.planner.choose.search import better_plan, ranked_plans
from lm_offload.planner.costs.model_sizes import ModelSizes
from lm_offload.planner.costs.thread_rates import with_threads
from lm_offload.planner.decided.fixed_plan import fixed_plan
from lm_offload.planner.decided.plan_choice import choice_of
from lm_offload.planner.reasons.between_sweeps import BetweenSweeps, between_sweeps
from lm_offload.planner.reasons.ceiling import CeilingModel
from lm_offload.planner.reasons.improvements import Improvements, WhatIf
from lm_offload.planner.reasons.in_place_reason import InPlaceReason, in_place_reason, in_place_text
from lm_offload.planner.reasons.phase_ceiling import Ceiling
from lm_offload.planner.reasons.reasons import is_lossy, plan_name, reason_of
from lm_offload.planner.reasons.side_by_side import SideBySide, side_by_side
from lm_offload.planner.request import Request
from lm_offload.quant.quality import FormatQuality, quality_of

RUNNERS_UP = 3  # shown beside the best of each other format


@dataclass(frozen=True)
class RunnerUp:
    """Another plan and why it lost; one that is faster is not allowed."""

    name: str
    plan: Plan
    speedup: float  # of the whole run against the chosen plan
    reason: str


@dataclass(frozen=True)
class Explanation:
    """All that is told about a plan beside its decisions."""

    bottleneck: dict[str, str]  # by phase: disk, memory, compute or the engine itself
    ceiling: Ceiling
    threads_speedup: float  # of the whole run against every core for every kind of task
    side_by_side: SideBySide
    between: BetweenSweeps | None  # decode sweeps, if there are any
    what_ifs: tuple[WhatIf, ...]
    runners_up: tuple[RunnerUp, ...]
    quality: FormatQuality | None  # of the plan's formats, where they round and were measured
    in_place: InPlaceReason | None = None  # where a device computes and MLPs lie in host memory


def explain(
    request: Request,
    plan: Plan,
    forbidden: Sequence[ModelSizes] = (),
    common: Common | None = None,
) -> Explanation:
    """The explanation of `plan` for the request's workload.

    `forbidden` is the model in formats that were not allowed, to say what they would bring,
    `common` what was found while the plan was made.
    """
    common = common or Common()
    better = Improvements(request, plan, common)
    model = request.model_of(plan)
    return Explanation(
        bottleneck={phase: better.bottleneck(phase) for phase in plan.predicted.step_s},
        ceiling=CeilingModel(model, plan, request.profile).ceiling(request.workload),
        threads_speedup=_threads_speedup(request, plan, common),
        side_by_side=side_by_side(model, with_threads(request.profile, plan.threads).cpu, plan),
        between=between_sweeps(plan, request.profile.cpu, request.config.vocab_size),
        what_ifs=tuple(better.what_ifs()),
        runners_up=(
            *_runners_up(request, plan, common),
            *_forbidden(request, plan, forbidden, common),
        ),
        quality=quality_of(plan.weight_format, plan.kv_format),
        in_place=in_place_reason(request, plan, common),
    )


def _threads_speedup(request: Request, plan: Plan, common: Common) -> float:
    everywhere = replace(choice_of(plan), threads=ThreadPlan.on(request.profile.cpu.threads))
    open_request = replace(request, threads=None)
    return fixed_plan(open_request, everywhere, common).predicted.run_s / plan.predicted.run_s


def _runners_up(request: Request, plan: Plan, common: Common) -> Iterator[RunnerUp]:
    """The best plan of each other kind: first of the chosen format, then of those allowed."""
    kinds: dict[tuple[object, ...], Plan] = {_kind(plan): plan}
    for timed in ranked_plans(request, common):
        kinds.setdefault(_kind(timed.plan), timed.plan)
    others = list(kinds.values())[1:]
    alike = [other for other in others if _formats(other) == _formats(plan)]
    formats = {_formats(other): other for other in reversed(others)}
    formats.pop(_formats(plan), None)
    for other in (*alike[:RUNNERS_UP], *formats.values()):
        speedup = plan.predicted.run_s / other.predicted.run_s
        yield RunnerUp(plan_name(other, plan), other, speedup, reason_of(other, plan))


def _kind(plan: Plan) -> tuple[object, ...]:
    """What plans of one kind have in common; they differ in how rows are cut."""
    spilled = len(plan.spill.layers)
    device = plan.device
    uploaded = (device.uploaded_bytes, device.ring_bytes, device.attention) if device else ()
    in_place = in_place_text(device.in_place) if device else ""
    streamed = len(plan.streamed), plan.ring_bytes
    return (*_formats(plan), plan.max_sequences, *streamed, spilled, *uploaded, in_place)


def _formats(plan: Plan) -> tuple[str, str]:
    return plan.weight_format, plan.kv_format


def _forbidden(
    request: Request, plan: Plan, forbidden: Sequence[ModelSizes], common: Common
) -> Iterator[RunnerUp]:
    """What formats would bring that the user did not allow."""
    for model in forbidden:
        other = better_plan(replace(request, models=[model]), common)
        speedup = plan.predicted.run_s / other.predicted.run_s
        reason = "lossy; allowed by --weight-format auto"
        if not is_lossy(other) or speedup < 1:
            reason = reason_of(other, plan)
        yield RunnerUp(plan_name(other, plan), other, speedup, reason)
