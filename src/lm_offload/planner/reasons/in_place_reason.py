"""Why a plan computes MLPs or layers in place, or not: what one of them takes either way."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from lm_offload.plan import Plan
from lm_offload.planner.choose.common import Common
from lm_offload.planner.choose.predictor import Predictor
from lm_offload.planner.request import Request
from lm_offload.planner.sweeps.mean_sweeps import mean_decode


@dataclass(frozen=True)
class InPlaceReason:
    """Seconds of one MLP or layer in a decode sweep, by CPU memory and by the link."""

    what: Literal["MLP", "layer"]
    rows: int
    on_cpu_s: float
    upload_s: float
    in_place: int  # that the CPU computes
    uploaded: int  # others in host memory
    most_rows: int


def in_place_reason(request: Request, plan: Plan, common: Common) -> InPlaceReason | None:
    """Of a plan with a device and MLPs in host memory."""
    if plan.device is None or request.profile.h2d is None:
        return None
    model, in_place = request.model_of(plan), plan.device.in_place
    kinds = ("attention", "mlp") if _layers_of(in_place, "attention") else ("mlp",)
    found = _layers_of(plan.resident, *kinds)
    if not found:
        return None
    shape = mean_decode(request.workload, plan.max_sequences).shape
    costs = Predictor(request, common).cpu_costs(model, plan.threads)
    seconds, names = costs.unit_s(shape, plan.micro_batch_tokens), _names(found[0], kinds)
    units = [unit for unit, sized in enumerate(model.units) if sized.unit.name in names]
    return InPlaceReason(
        what="layer" if len(kinds) > 1 else "MLP",
        rows=shape.rows,
        on_cpu_s=sum(map(seconds.__getitem__, units)),
        upload_s=sum(request.profile.h2d.transfer_s(model.units[it].size_bytes) for it in units),
        in_place=len(_layers_of(in_place, *kinds)),
        uploaded=len(found) - len(_layers_of(in_place, *kinds)),
        most_rows=plan.device.in_place_rows,
    )


def in_place_text(in_place: Collection[str]) -> str:
    """What units are together, such as `5 layers and 1 MLP`; empty for none."""
    whole = _layers_of(in_place, "attention", "mlp")
    counts = {
        "layer": len(whole),
        "attention unit": len(_layers_of(in_place, "attention")) - len(whole),
        "MLP": len(_layers_of(in_place, "mlp")) - len(whole),
    }
    found = [f"{count} {what}" + "s" * (count > 1) for what, count in counts.items() if count]
    return " and ".join(found)


def _layers_of(names: Collection[str], *kinds: str) -> list[str]:
    """Layers of which units of all these kinds are among `names`."""
    known = {*names}
    layers = dict.fromkeys(name.rpartition(".")[0] for name in names if name.endswith(kinds))
    return [layer for layer in layers if _names(layer, kinds) <= known]


def _names(layer: str, kinds: Collection[str]) -> set[str]:
    return {f"{layer}.{kind}" for kind in kinds}
