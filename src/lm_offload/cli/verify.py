"""`lm-offload plan --verify`: the best plans run for a few tokens, in the order predicted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rich.console import Console
from rich.table import Table

from lm_offload.cli.measure import Shape, run_workload, warm_up
from lm_offload.cli.memory_mark import mark_memory
from lm_offload.cli.progress import RunProgress
from lm_offload.engine.llm import LLM
from lm_offload.plan import Figures, Plan
from lm_offload.planner.choose.search import ranked_plans
from lm_offload.planner.decided.fixed_plan import fixed_plan
from lm_offload.planner.decided.plan_choice import PlanChoice, choice_of
from lm_offload.planner.reasons.ranking import Ranking, ranking_of
from lm_offload.planner.reasons.reasons import plan_name
from lm_offload.planner.request import Request

PLANS = 4
PROMPT_TOKENS = 512  # of all prompts together
GEN_LEN = 9
SEED = 0


@dataclass(frozen=True)
class Verified:
    """One plan on a short workload, predicted and measured."""

    name: str
    plan: Plan
    predicted: Figures
    measured: Figures


@dataclass(frozen=True)
class Verification:
    """All plans that ran, fastest by prediction first."""

    workload: Shape
    plans: Sequence[Verified]
    ranking: Ranking


def verify(model: str, request: Request, shape: Shape, progress: RunProgress) -> Verification:
    """Run the best plans of a request on a short form of its workload."""
    short = _shortened(shape)
    best = _distinct([timed.plan for timed in ranked_plans(request)])[:PLANS]
    plans = [
        Verified(plan_name(plan, best[0]), plan, *run_plan(model, request, plan, short, progress))
        for plan in best
    ]
    plans.sort(key=lambda found: found.predicted.run_s)
    predicted_s = [found.predicted.run_s for found in plans]
    measured_s = [found.measured.run_s for found in plans]
    return Verification(short, plans, ranking_of(predicted_s, measured_s))


def print_verification(console: Console, found: Verification) -> None:
    """A line for each plan, then how good their order is."""
    table = Table("plan", "predicted", "measured", "measured / predicted", title="Verified")
    table.title_justify = "left"
    for plan in found.plans:
        predicted_s, measured_s = plan.predicted.run_s, plan.measured.run_s
        ratio = f"{measured_s / predicted_s:.2f}"
        table.add_row(plan.name, f"{predicted_s:.3f} s", f"{measured_s:.3f} s", ratio)
    console.print(table)
    ranking, shape = found.ranking, found.workload
    console.print(
        f"With {shape.batch_size} prompts of {shape.prompt_len} tokens and {shape.gen_len} tokens "
        f"for each: {ranking.wrong_pairs} of {ranking.pairs} pairs are in the wrong order, the "
        f"plan predicted best is {ranking.regret:.1%} slower than the best measured."
    )


def _shortened(shape: Shape) -> Shape:
    """As many prompts, shorter, so that a run takes seconds."""
    prompt_len = max(min(shape.prompt_len, PROMPT_TOKENS // shape.batch_size), 1)
    return Shape(shape.batch_size, prompt_len, min(shape.gen_len, GEN_LEN))


def _distinct(plans: Sequence[Plan]) -> list[Plan]:
    """The first of those that decide the same."""
    found: dict[PlanChoice, Plan] = {}
    for plan in plans:
        found.setdefault(choice_of(plan), plan)
    return list(found.values())


def run_plan(
    model: str, request: Request, plan: Plan, shape: Shape, progress: RunProgress
) -> tuple[Figures, Figures]:
    """Predicted and measured, on an engine that has run before."""
    choice = choice_of(plan)
    predicted = fixed_plan(replace(request, workload=shape.workload), choice).predicted
    llm = LLM(
        model,
        cpu_memory=request.budget_bytes,
        speculation="off",  # predictions are of one token a sweep
        plan=choice,
        on_load=progress.on_load,
        on_quantize=progress.on_quantize,
    )
    llm.profile = request.profile
    with llm:
        memory = mark_memory()
        llm.load(shape.workload)
        warm_up(llm)
        decoded = shape.batch_size * (shape.gen_len - 1)
        progress.expect(shape.batch_size * shape.prompt_len, decoded)
        return predicted, run_workload(llm, shape, SEED, memory, progress.on_sweep)
