"""From a user's budget and prompts to a plan for this machine."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from lm_offload.engine.model_files import ModelFiles
from lm_offload.errors import ConfigError
from lm_offload.hardware.limits import available_memory_bytes
from lm_offload.hardware.probe import measure_rates
from lm_offload.kernels.base import Kernels
from lm_offload.plan import MachineRates, Plan, Workload
from lm_offload.planner.candidate import Request, UnitSize
from lm_offload.planner.search import make_plan, smallest_memory
from lm_offload.storage.direct_file import DirectFile
from lm_offload.units import MIB, format_bytes, parse_size

log = logging.getLogger(__name__)

MARGIN_FRAC = 0.1  # of free memory, left to others when no budget is given
PROBE_FRAC = 0.25  # of the budget, for the buffer of the probe


def resolve_budget(
    cpu_memory: str | int | None, max_memory: Mapping[str | int, str | int] | None = None
) -> int:
    """Bytes that weights, KV cache, staging and activations may take together.

    The fixed cost of interpreter and libraries comes on top. None means what cgroup and free
    memory allow, less a margin. Raises ConfigError for what is no size or not positive.
    """
    if max_memory is not None:
        cpu_memory = _from_max_memory(cpu_memory, max_memory)
    available_bytes = available_memory_bytes()
    if cpu_memory is None:
        return int(available_bytes * (1 - MARGIN_FRAC))
    budget_bytes = (
        cpu_memory if isinstance(cpu_memory, int) else parse_size(cpu_memory, available_bytes)
    )
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


def _from_max_memory(
    cpu_memory: str | int | None, max_memory: Mapping[str | int, str | int]
) -> str | int:
    """The budget in accelerate's spelling, which may name devices that are not here yet."""
    if cpu_memory is not None or set(max_memory) != {"cpu"}:
        raise ConfigError(
            f"max_memory is {dict(max_memory)!r}; give either cpu_memory or max_memory with the "
            'one key "cpu", the only tier besides the disk so far.'
        )
    return max_memory["cpu"]


def probe_machine(files: ModelFiles, kernels: Kernels, budget_bytes: int) -> MachineRates:
    """Measure the disk that holds the weights and the CPU, within a part of the budget."""
    largest = max(
        files.checkpoint.stamps, key=lambda path: files.checkpoint.stamps[path].size_bytes
    )
    file = DirectFile(largest)
    try:
        return measure_rates(file, kernels, max(int(budget_bytes * PROBE_FRAC), MIB))
    finally:
        file.close()


def plan_for(files: ModelFiles, workload: Workload, rates: MachineRates, budget_bytes: int) -> Plan:
    """The fastest plan for `workload`; raises BudgetError if none fits."""
    return make_plan(_request(files, workload, rates, budget_bytes))


def smallest_budget_bytes(files: ModelFiles, workload: Workload, rates: MachineRates) -> int:
    """The smallest budget for which there is a plan."""
    return sum(size_bytes for _, size_bytes in smallest_memory(_request(files, workload, rates, 0)))


def _request(
    files: ModelFiles, workload: Workload, rates: MachineRates, budget_bytes: int
) -> Request:
    units = [
        UnitSize(unit, layout.size_bytes)
        for unit, layout in zip(files.units, files.layouts, strict=True)
    ]
    table_bytes = files.table_layout.size_bytes if files.table_layout else 0
    return Request(files.config, units, table_bytes, workload, rates, budget_bytes, files.kv_format)


def covers(plan: Plan, wanted: Plan) -> bool:
    """Whether an engine built for `plan` can do what `wanted` was made for just as well."""
    return (
        plan.kv_blocks >= wanted.kv_blocks
        and plan.scored_rows >= wanted.scored_rows
        and plan.max_sequences >= wanted.max_sequences
        and plan.sweep_tokens >= wanted.sweep_tokens
        and plan.micro_batch_tokens >= wanted.micro_batch_tokens
    )
