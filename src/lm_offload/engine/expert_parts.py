"""The parts of an engine that a mixture of experts has beside those of other models."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch

from lm_offload.engine.lending import streamed_bytes
from lm_offload.engine.model_files import ModelFiles
from lm_offload.kernels.expert_table import ExpertTable
from lm_offload.models.base import Context
from lm_offload.models.registry import load_mixture, load_model
from lm_offload.pipeline.expert_functions import ExpertFunctions
from lm_offload.pipeline.runner_parts import Buffers
from lm_offload.plan import Plan
from lm_offload.schedule.on_demand import ExpertUse, OnDemand
from lm_offload.schedule.sweep import SweepSchedule
from lm_offload.storage.arena import Memory
from lm_offload.storage.layout import UnitLayout
from lm_offload.storage.weight_store import WeightStore
from lm_offload.units import align_down


@dataclass(frozen=True)
class ExpertUses:
    """Who knows what sweeps have used."""

    functions: ExpertFunctions
    on_demand: OnDemand

    def take(self) -> ExpertUse:
        """What there was since the last call."""
        return ExpertUse(self.functions.take_used(), self.on_demand.take_read())


def expert_functions(
    files: ModelFiles,
    context: Context,
    buffers: Buffers,
    memory: Mapping[str, Memory],
    plan: Plan,
    store: WeightStore,
) -> ExpertFunctions:
    """What computes the experts."""
    shape = tuple(buffers.hidden.shape)
    inputs = memory["expert inputs"].view(0, torch.float32, shape)
    sums = None
    if context.config.summed_experts:
        sums = memory["expert sums"].view(0, torch.float32, shape)
    model = load_mixture(context.config.model_type)
    most, tables = plan.micro_batch_tokens, _tables(files, context, plan, store)
    return ExpertFunctions(model, context, buffers.hidden, inputs, most, sums, tables)


def _tables(
    files: ModelFiles, context: Context, plan: Plan, store: WeightStore
) -> dict[int, ExpertTable]:
    """Of the layers whose experts the kernels find by themselves."""
    if "expert" not in load_model(context.config.model_type).KERNELS_ONLY:
        return {}
    ring = align_down(plan.ring_bytes)
    found = {}
    for layer, experts in experts_by_layer(files).items():
        first = experts[0]
        example = store.acquire(first, -1 if store.has_home(first) else ring)
        table = context.kernels.expert_table(len(experts), example)
        if table is not None and _alike([files.layouts[unit] for unit in experts]):
            found[layer] = table
    return found


def experts_by_layer(files: ModelFiles) -> dict[int, list[int]]:
    """The units that are experts, of each layer that has any."""
    found: dict[int, list[int]] = {}
    for number, unit in enumerate(files.units):
        if unit.kind == "expert":
            found.setdefault(unit.index, []).append(number)
    return found


def _alike(layouts: Sequence[UnitLayout]) -> bool:
    """Whether they differ in nothing but where their weights lie."""
    kinds = {
        frozenset((role, at.dtype_name, at.shape, at.format) for role, at in layout.places.items())
        for layout in layouts
    }
    return len(kinds) == 1


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
    files: ModelFiles,
    plan: Plan,
    store: WeightStore,
    functions: ExpertFunctions,
    joined: Collection[int],
) -> OnDemand:
    """The experts of a plan, whose homes in `store` are theirs to take from one another.

    Those that are `joined` are computed whoever was chosen: nobody asks their router.
    """
    layers = [it for it in experts_by_layer(files).values() if it[0] not in joined]
    experts = [unit for layer in layers for unit in layer]
    start = align_down(plan.ring_bytes)  # units fill whole pages
    return OnDemand(
        {layer[0] - 1: range(layer[0], layer[-1] + 1) for layer in layers},
        {unit: files.layouts[unit].size_bytes for unit in experts},
        [unit for unit in experts if store.has_home(unit)],
        range(start, start + plan.expert_ring_bytes),
        functions.chosen,
        store.take_home,
    )
