"""From a user's budget and prompts to a plan for this machine."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from lm_offload.arch.weights import Unit
from lm_offload.engine.cut_files import layout_of
from lm_offload.engine.model_files import ModelFiles
from lm_offload.errors import ConfigError
from lm_offload.hardware.limits import available_memory_bytes
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.kvcache.cache import blocks_for
from lm_offload.plan import Plan, Speculation, Workload
from lm_offload.planner.choose.search import make_plan
from lm_offload.planner.choose.smallest import smallest_memory
from lm_offload.planner.costs.model_sizes import ModelSizes
from lm_offload.planner.costs.sized_model import model_sizes, sized_units
from lm_offload.planner.reasons.ceiling import CeilingModel
from lm_offload.planner.reasons.phase_ceiling import Ceiling
from lm_offload.planner.request import DeviceBudget, Request
from lm_offload.units import format_bytes, parse_size

log = logging.getLogger(__name__)

ENOUGH_ROWS, ENOUGH_MICRO_ROWS = 2048, 256  # of a sweep, of a micro-batch: more gain little
MARGIN_FRAC = 0.1  # of free memory, left to others when no budget is given


def resolve_budget(cpu_memory: str | float | None) -> int:
    """Bytes that weights, KV cache, staging and activations may take together.

    The fixed cost of interpreter and libraries comes on top. None means what cgroup and free
    memory allow, less a margin. Raises ConfigError for what is no size or not positive.
    """
    available_bytes = available_memory_bytes()
    if cpu_memory is None:
        return int(available_bytes * (1 - MARGIN_FRAC))
    budget_bytes = parse_size(cpu_memory, available_bytes)
    if budget_bytes <= 0:
        raise ConfigError(f"A CPU memory budget of {cpu_memory} was given; it must be positive.")
    if budget_bytes > available_bytes:
        log.warning(
            "The CPU memory budget of %s is more than the %s that are free; the system may swap or "
            "kill the process if all of it is needed.",
            format_bytes(budget_bytes),
            format_bytes(available_bytes),
        )
    return budget_bytes


def plan_for(
    models: Sequence[ModelFiles],
    workload: Workload,
    profile: HardwareProfile,
    budget_bytes: int,
    threads: int | None = None,
) -> Plan:
    """The fastest plan for `workload`; raises BudgetError if none fits.

    `models` is one model in each of the weight formats that may be chosen.
    """
    request = planning_request(models, workload, profile, budget_bytes, threads=threads)
    return make_plan(request)


def planning_request(
    models: Sequence[ModelFiles],
    workload: Workload,
    profile: HardwareProfile,
    budget_bytes: int,
    *,
    speculation: Speculation = "off",
    threads: int | None = None,
    spill_bytes: int = 0,
    device: DeviceBudget | None = None,
) -> Request:
    """What the planner needs to know of the files.

    `threads` as the user gave them, `spill_bytes` of disk that a KV cache may take, `device` that
    is to compute.
    """
    return Request(
        [sizes_of(files) for files in models],
        workload,
        profile,
        budget_bytes,
        speculation=speculation,
        threads=threads,
        spill_bytes=spill_bytes,
        device=device,
    )


def smallest_budget_bytes(files: ModelFiles, workload: Workload, profile: HardwareProfile) -> int:
    """The smallest budget for which there is a plan."""
    request = planning_request([files], workload, profile, 0)
    return sum(size_bytes for _, size_bytes in smallest_memory(request))


def ceiling_for(
    choices: Sequence[ModelFiles], plan: Plan, workload: Workload, profile: HardwareProfile
) -> Ceiling:
    """The least time that a workload can take with this plan on this machine."""
    model = planning_request(choices, workload, profile, 0).model_of(plan)
    return CeilingModel(model, plan, profile).ceiling(workload)


def sizes_of(files: ModelFiles) -> ModelSizes:
    """A model as the planner sees it."""

    def bytes_of(number: int, unit: Unit) -> int:
        return layout_of(files, number, unit).size_bytes

    units = sized_units(files.config, files.units, bytes_of)
    table_bytes = files.table_layout.size_bytes if files.table_layout else 0
    return model_sizes(files.config, files.stored_format, units, table_bytes, files.kv_wanted)


def serves(plan: Plan, workload: Workload) -> bool:
    """Whether an engine built for `plan` takes the whole workload at once, so that no other
    plan has to be looked for."""
    rows = min(sum(workload.computed_lens), ENOUGH_ROWS)
    return (
        plan.lanes >= len(workload.prompt_lens)
        and stages(plan, workload)
        and plan.kv_blocks >= sum(map(blocks_for, workload.own_lens))
        and plan.scored_rows >= min(workload.scored_tokens, 1)
        and plan.sweep_tokens >= rows
        and plan.micro_batch_tokens >= min(rows, ENOUGH_MICRO_ROWS)
    )


def stages(plan: Plan, workload: Workload) -> bool:
    """Whether the longest sequence has room where it is attended to: staged from disk, or in one of
    two memories.
    """
    longest = max(map(blocks_for, workload.total_lens))
    staged = not plan.spill.layers or plan.spill.group_blocks >= longest
    return staged and plan.sequence_blocks >= longest


def covers(plan: Plan, wanted: Plan) -> bool:
    """Whether an engine built for `plan` can do what `wanted` was made for just as well."""
    return (
        plan.weight_format == wanted.weight_format
        and plan.kv_blocks >= wanted.kv_blocks
        and plan.scored_rows >= wanted.scored_rows
        and plan.max_sequences >= wanted.max_sequences
        and plan.sweep_tokens >= wanted.sweep_tokens
        and plan.micro_batch_tokens >= wanted.micro_batch_tokens
    )
