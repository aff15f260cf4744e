"""Plans for a long context: its KV cache resident, and about half of it on disk."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from lm_offload import LLM, Workload
from lm_offload.errors import BudgetError
from lm_offload.kvcache.spilled_size import spilled_block_bytes
from lm_offload.plan import KVSpill
from lm_offload.planner.costs.memory import kv_bytes, kv_staging_bytes
from lm_offload.planner.decided.fixed_plan import sizes_of_choice
from lm_offload.planner.decided.plan_choice import PlanChoice, choice_of
from lm_offload.planner.places.kv_spill import spread_layers
from lm_offload.quant.kv_format import BLOCK_TOKENS


@dataclass(frozen=True)
class Case:
    """Sequences of one context, which is a whole number of blocks."""

    model: Path
    batch: int
    context: int
    sweeps: int
    kv_format: str | None
    groups: int
    depth: int

    @property
    def workload(self) -> Workload:
        """One token of the prompt is left to compute."""
        return Workload((self.context + 1,) * self.batch, (self.sweeps + 1,) * self.batch)


def base_choice(llm: LLM, case: Case) -> PlanChoice:
    """Everything resident, all sequences in flight, a token of each in a sweep."""
    choice = choice_of(llm.plan_for(case.workload))
    return replace(
        choice,
        max_sequences=case.batch,
        kv_blocks=case.batch * (case.context + case.sweeps + 2 + BLOCK_TOKENS) // BLOCK_TOKENS,
        sweep_tokens=case.batch,
        micro_batch_tokens=case.batch,
    )


def half_on_disk(llm: LLM, case: Case, base: PlanChoice) -> PlanChoice:
    """The fewest layers on disk with which cache and staging take half of the cache's bytes.

    What is left of the half makes the ring longer.
    """
    request = llm._request(case.workload)
    model, config = request.models[0], request.config
    group = max(base.kv_blocks // case.groups, base.kv_blocks // case.batch)
    sizes = sizes_of_choice(base, request.default_threads.compute)
    whole_bytes = kv_bytes(model, sizes)
    for count in range(1, config.num_layers + 1):
        spill = KVSpill(spread_layers(config, count), group, case.depth * group)
        found = replace(sizes, spill=spill)
        if kv_bytes(model, found) + kv_staging_bytes(model, found) <= whole_bytes / 2:
            left_bytes = whole_bytes / 2 - kv_bytes(model, found) - kv_staging_bytes(model, found)
            more = int(left_bytes // spilled_block_bytes(config, model.kv_format))
            return replace(
                base,
                kv_on_disk=spill.layers,
                kv_group_blocks=spill.group_blocks,
                kv_ring_blocks=spill.ring_blocks + more,
            )
    raise BudgetError("The staging ring alone takes half of the cache; raise --groups.")
