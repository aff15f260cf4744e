"""The parts of an engine that a mixture of experts has beside those of other models."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch

from lm_offload.engine.lending import streamed_bytes
from lm_offload.engine.model_files import ModelFiles
from lm_offload.models.base import Context
from lm_offload.models.registry import load_mixture
from lm_offload.pipeline.expert_functions import ExpertFunctions
from lm_offload.pipeline.runner_parts import Buffers
from lm_offload.plan import Plan
from lm_offload.schedule.on_demand import OnDemand
from lm_offload.schedule.sweep import SweepSchedule
from lm_offload.storage.arena import Memory
from lm_offload.storage.weight_store import WeightStore
from lm_offload.units import align_down


def expert_functions(
    context: Context, buffers: Buffers, memory: Mapping[str, Memory], plan: Plan
) -> ExpertFunctions:
    """What computes the experts."""
    shape = tuple(buffers.hidden.shape)
    inputs = memory["expert inputs"].view(0, torch.float32, shape)
    sums = None
    if context.config.summed_experts:
        sums = memory["expert sums"].view(0, torch.float32, shape)
    model = load_mixture(context.config.model_type)
    return ExpertFunctions(model, context, buffers.hidden, inputs, plan.micro_batch_tokens, sums)


def schedule_of(
    files: ModelFiles, plan: Plan, experts: OnDemand | None, joined: Collection[int] = ()
) -> SweepSchedule:
    """The schedule of a plan that the CPU carries out, with its experts on demand.

    Units that are `joined` are one task with their neighbours: see `SweepSchedule`.
    """
    sizes_bytes = streamed_bytes(files, plan)
    always = {
        unit: size for unit, size in sizes_bytes.items() if files.units[unit].kind != "expert"
    }
    ring_bytes = align_down(plan.ring_bytes)  # units fill whole pages, from either end of it
    return SweepSchedule(always, ring_bytes, plan.in_flight_bytes, experts, joined)


def experts_on_demand(
    files: ModelFiles, plan: Plan, store: WeightStore, functions: ExpertFunctions
) -> OnDemand:
    """The experts of a plan, whose homes in `store` are theirs to take from one another."""
    units = files.units
    routers = (number for number, unit in enumerate(units) if unit.kind == "router")
    count = files.config.num_experts
    experts = [number for number, unit in enumerate(units) if unit.kind == "expert"]
    start = align_down(plan.ring_bytes)  # units fill whole pages
    return OnDemand(
        {router: range(router + 1, router + 1 + count) for router in routers},
        {unit: files.layouts[unit].size_bytes for unit in experts},
        [unit for unit in experts if store.has_home(unit)],
        range(start, start + plan.expert_ring_bytes),
        lambda: functions.chosen,
        store.take_home,
    )
