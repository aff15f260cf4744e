"""What users ask of a plan."""

from __future__ import annotations

from dataclasses import dataclass

from lm_offload.engine.formats import AUTO
from lm_offload.plan import Speculation
from lm_offload.planner.decided.plan_choice import PlanChoice


@dataclass(frozen=True)
class PlanOptions:
    """What is to be planned, as users write it; None is the default of each."""

    model: str
    weight_format: str | None = None
    exact: bool = False
    cpu_memory: str | None = None
    gpu_memory: str | None = None
    device: str | None = None
    attention: str = AUTO
    in_place: str = AUTO
    threads: int | None = None
    machine: str | None = None  # a file, or the name of one that ships
    plan: PlanChoice | None = None
    kv_format: str | None = None
    speculation: Speculation = "off"
    draft_model: str | None = None
    spill_dir: str | None = None
