"""What the headers of a checkpoint tell, and which budgets a workload needs."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lm_offload.arch.accounting import kv_bytes_per_token, model_parameters
from lm_offload.arch.weights import Unit
from lm_offload.errors import BudgetError
from lm_offload.hardware.curve import Curve
from lm_offload.hardware.link import Link
from lm_offload.hardware.processor import Processor
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.plan import Plan, Workload
from lm_offload.units import GIB, MIB

if TYPE_CHECKING:
    from lm_offload.engine.model_files import ModelFiles
    from lm_offload.engine.plan_options import PlanOptions

# Only sizes are asked for here, and measuring the machine would read weights.
DISK = Link(Curve((1,), (2e9,)), block_bytes=8 * MIB, concurrency=2)
NOMINAL = HardwareProfile("any machine", "nominal", Processor(1, GIB, 2e10, 2e11), GIB, DISK, DISK)
UNLIMITED_BYTES = 1 << 60


@dataclass(frozen=True)
class UnitSummary:
    """One unit: its bytes as they are stored, and where it would be."""

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
    weight_format: str | None  # of the matrices where they are quantized
    conversion: str | None  # of a checkpoint that others quantized: what reading it does
    parameters: int
    max_positions: int
    weight_bytes: int
    kv_bytes_per_token: int
    state_bytes: int  # that recurrent layers keep of a sequence
    kinds: Sequence[KindSummary]
    profile: str | None  # that plans are made from; None where no machine has been measured
    budget_bytes: int
    smallest_budget_bytes: int
    resident_budget_bytes: int  # nothing is streamed, and there is room for large sweeps
    runs: bool
    fits: bool  # nothing stays on disk
    tier_bytes: dict[str, int]
    rows_on_disk_bytes: int  # of embedding tables: a sweep reads a row for each token
    units: Sequence[UnitSummary]


def inspect_model(
    model: str,
    workload: Workload,
    cpu_memory: str | None,
    weight_format: str | None = None,
    exact: bool = False,
) -> Inspection:
    """Read headers, plan for the budget; raises CheckpointError or ConfigError."""
    from lm_offload.engine.cut_files import in_units_of
    from lm_offload.engine.model_folder import model_name
    from lm_offload.engine.opening import open_model
    from lm_offload.engine.plan_options import PlanOptions
    from lm_offload.engine.planning import plan_for, smallest_budget_bytes

    files = open_model(model, weight_format, exact)
    known = _known_profile(files)
    profile = known or NOMINAL
    asked = PlanOptions(model=model, exact=exact, cpu_memory=cpu_memory, speculation="auto")
    budget_bytes, plan = _plan_within(files, workload, profile, asked)
    roomy = plan_for([files], workload, profile, UNLIMITED_BYTES)
    cut = in_units_of(plan, files) if plan else files
    units = [_unit_summary(cut, index, plan) for index in range(len(cut.units))]
    rows_on_disk_bytes = _rows_on_disk_bytes(files, plan)
    return Inspection(
        name=model_name(files.folder),
        model_type=files.config.model_type,
        dtype=files.config.dtype,
        weight_format=str(files.weight_format) if files.weight_format else None,
        conversion=files.conversion.summary if files.conversion else None,
        parameters=model_parameters(files.units),
        max_positions=files.config.max_positions,
        weight_bytes=files.weight_bytes,
        kv_bytes_per_token=kv_bytes_per_token(files.config, files.kv_format),
        state_bytes=files.config.state_bytes,
        kinds=_kinds(units),
        profile=known.name if known else None,
        budget_bytes=budget_bytes,
        smallest_budget_bytes=smallest_budget_bytes(files, workload, profile),
        resident_budget_bytes=roomy.used_bytes,
        runs=plan is not None,
        fits=plan is not None and not plan.streamed and not rows_on_disk_bytes,
        tier_bytes=_tier_bytes(plan),
        rows_on_disk_bytes=rows_on_disk_bytes,
        units=units,
    )


def _known_profile(files: ModelFiles) -> HardwareProfile | None:
    """That of this machine, where it has been measured."""
    from lm_offload.engine.kernel_choice import KernelChoice
    from lm_offload.engine.profile_choice import known_profile
    from lm_offload.hardware.limits import check_threads

    return known_profile(files.largest_file, KernelChoice.by_name(check_threads(None)))


def _plan_within(
    files: ModelFiles, workload: Workload, profile: HardwareProfile, asked: PlanOptions
) -> tuple[int, Plan | None]:
    """The budget and what `lm-offload plan` plans in it, None where the workload does not run."""
    from lm_offload.engine.plan_models import AllowedSizes
    from lm_offload.engine.plan_request import case_on
    from lm_offload.engine.planning import sizes_of

    sizes = AllowedSizes([sizes_of(files)], (), files.largest_file, files)
    case = case_on(profile, sizes, asked, workload)
    with contextlib.suppress(BudgetError):
        return case.request.budget_bytes, case.plan(None)
    return case.request.budget_bytes, None


def _unit_summary(files: ModelFiles, index: int, plan: Plan | None) -> UnitSummary:
    unit, size_bytes = files.units[index], files.layouts[index].weight_bytes
    if unit.kind == "embed" and files.table_layout:
        size_bytes += files.table_layout.weight_bytes
    return UnitSummary(unit.name, unit.kind, size_bytes, _tier(files, unit, plan))


def _tier(files: ModelFiles, unit: Unit, plan: Plan | None) -> str | None:
    if plan is None:
        return None
    if unit.kind == "embed" and unit.tables:
        in_head = files.table_layout is None  # whose parts hold the rows
        return "cpu" if plan.table_resident or (in_head and not plan.streamed) else "disk"
    return "cpu" if unit.name in plan.resident else "disk"


def _rows_on_disk_bytes(files: ModelFiles, plan: Plan | None) -> int:
    if plan is None or plan.table_resident or files.table_layout is None:
        return 0
    return files.table_layout.weight_bytes


def _tier_bytes(plan: Plan | None) -> dict[str, int]:
    if plan is None:
        return {}
    return {"cpu": dict(plan.memory)["resident weights"], "disk": plan.streamed_bytes}


def _kinds(units: Sequence[UnitSummary]) -> list[KindSummary]:
    kinds: dict[str, list[int]] = {}
    for unit in units:
        kinds.setdefault(unit.kind, []).append(unit.size_bytes)
    return [KindSummary(kind, len(sizes), sum(sizes)) for kind, sizes in kinds.items()]
