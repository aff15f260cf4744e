"""What the headers of a checkpoint tell, and which budgets a workload needs."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lm_offload.arch.accounting import kv_bytes_per_token, model_parameters, unit_bytes
from lm_offload.arch.weights import Unit
from lm_offload.errors import BudgetError
from lm_offload.plan import MachineRates, Plan, Workload
from lm_offload.units import MIB

if TYPE_CHECKING:
    from lm_offload.engine.model_files import ModelFiles

# Only sizes are asked for here, and measuring rates would read weights.
NOMINAL_RATES = MachineRates(2e9, 2e10, 2e11, 4 * MIB, 4)
UNLIMITED_BYTES = 1 << 60


@dataclass(frozen=True)
class UnitSummary:
    """One unit: its bytes in the checkpoint, and where it would be."""

    name: str
    kind: str
    size_bytes: int
    tier: str | None  # cpu, disk, or none where the workload does not run in the budget


@dataclass(frozen=True)
class KindSummary:
    """All units of a kind."""

    kind: str
    count: int
    size_bytes: int


@dataclass(frozen=True)
class Inspection:
    """A checkpoint and how a workload fits."""

    name: str
    model_type: str
    dtype: str
    parameters: int
    max_positions: int
    weight_bytes: int
    kv_bytes_per_token: int
    kinds: Sequence[KindSummary]
    budget_bytes: int
    smallest_budget_bytes: int
    resident_budget_bytes: int  # from here on nothing is streamed
    runs: bool
    fits: bool  # nothing is streamed
    tier_bytes: dict[str, int]
    units: Sequence[UnitSummary]


def inspect_model(model: str, workload: Workload, cpu_memory: str | None) -> Inspection:
    """Read headers, plan for the budget; raises CheckpointError or ConfigError."""
    from lm_offload.engine.model_files import open_model
    from lm_offload.engine.planning import plan_for, resolve_budget, smallest_budget_bytes

    files, budget_bytes = open_model(model), resolve_budget(cpu_memory)
    plan = None
    with contextlib.suppress(BudgetError):
        plan = plan_for(files, workload, NOMINAL_RATES, budget_bytes)
    roomy = plan_for(files, workload, NOMINAL_RATES, UNLIMITED_BYTES)
    units = [_unit_summary(files, unit, plan) for unit in files.units]
    return Inspection(
        name=files.folder.name,
        model_type=files.config.model_type,
        dtype=files.config.dtype,
        parameters=model_parameters(files.units),
        max_positions=files.config.max_positions,
        weight_bytes=files.weight_bytes,
        kv_bytes_per_token=kv_bytes_per_token(files.config, files.kv_format),
        kinds=_kinds(units),
        budget_bytes=budget_bytes,
        smallest_budget_bytes=smallest_budget_bytes(files, workload, NOMINAL_RATES),
        resident_budget_bytes=roomy.used_bytes,
        runs=plan is not None,
        fits=plan is not None and not plan.streamed,
        tier_bytes=_tier_bytes(plan),
        units=units,
    )


def _unit_summary(files: ModelFiles, unit: Unit, plan: Plan | None) -> UnitSummary:
    tied = unit.kind == "embed" and files.config.tie_embeddings
    loaded = [spec for spec in unit.weights if not (tied and spec.role == "tokens")]
    size_bytes = unit_bytes(Unit(unit.kind, unit.index, tuple(loaded)), files.config.itemsize)
    return UnitSummary(unit.name, unit.kind, size_bytes, _tier(unit, plan))


def _tier(unit: Unit, plan: Plan | None) -> str | None:
    if plan is None:
        return None
    if unit.kind == "embed" and unit.tables and not plan.table_resident:
        return "cpu" if plan.streamed == () else "disk"
    return "cpu" if unit.name in plan.resident else "disk"


def _tier_bytes(plan: Plan | None) -> dict[str, int]:
    if plan is None:
        return {}
    return {"cpu": dict(plan.memory)["resident weights"], "disk": plan.streamed_bytes}


def _kinds(units: Sequence[UnitSummary]) -> list[KindSummary]:
    kinds: dict[str, list[int]] = {}
    for unit in units:
        kinds.setdefault(unit.kind, []).append(unit.size_bytes)
    return [KindSummary(kind, len(sizes), sum(sizes)) for kind, sizes in kinds.items()]
