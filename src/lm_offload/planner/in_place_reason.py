"""Why a plan computes MLPs in place, or uploads them: what one of them takes either way."""

from __future__ import annotations

from dataclasses import dataclass

from lm_offload.plan import Plan
from lm_offload.planner.common import Common
from lm_offload.planner.mean_sweeps import mean_decode
from lm_offload.planner.predictor import Predictor
from lm_offload.planner.request import Request


@dataclass(frozen=True)
class InPlaceReason:
    """Seconds of one MLP in a decode sweep, by the bandwidth of CPU memory and by the link."""

    rows: int
    on_cpu_s: float
    upload_s: float
    in_place: int  # MLPs that the CPU computes
    uploaded: int  # others in host memory
    most_rows: int


def in_place_reason(request: Request, plan: Plan, common: Common) -> InPlaceReason | None:
    """Of a plan with a device and MLPs in host memory."""
    if plan.device is None or request.profile.h2d is None:
        return None
    model = request.model_in(plan.weight_format, plan.kv_format)
    mlps = {it.unit.name: unit for unit, it in enumerate(model.units) if it.unit.kind == "mlp"}
    found = [mlps[name] for name in plan.resident if name in mlps]
    if not found:
        return None
    shape = mean_decode(request.workload, plan.max_sequences).shape
    costs = Predictor(request, common).cpu_costs(model, plan.threads)
    return InPlaceReason(
        rows=shape.rows,
        on_cpu_s=costs.without_attention_s(shape, plan.micro_batch_tokens)[found[0]],
        upload_s=request.profile.h2d.transfer_s(model.units[found[0]].size_bytes),
        in_place=len(plan.device.in_place),
        uploaded=len(found) - len(plan.device.in_place),
        most_rows=plan.device.in_place_rows,
    )
