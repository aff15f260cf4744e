"""What would help a plan: the machine with one thing better, for the same plan and planned anew.

The same plan on the better machine tells what binds it, and it is what a plan made anew has to
beat: what bounds say cannot, is not looked at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from lm_offload.hardware.profile import HardwareProfile
from lm_offload.plan import Figures, Plan
from lm_offload.planner.choose.best_first import BestFirst, Group
from lm_offload.planner.choose.common import Common
from lm_offload.planner.choose.host_room import fits_host
from lm_offload.planner.choose.predictor import Timed
from lm_offload.planner.choose.search import better_plan
from lm_offload.planner.decided.fixed_plan import fixed_timed
from lm_offload.planner.decided.plan_choice import choice_of
from lm_offload.planner.reasons.what_if import (
    faster_compute,
    faster_disk,
    faster_link,
    faster_memory,
    on_gpu,
)
from lm_offload.planner.request import Request
from lm_offload.units import GIB

FACTOR = 2.0
MANY_GIB = 8  # of weights without room, of which one more GiB of memory moves no more than half
MORE_MEMORY = "1 GiB more memory"
Helper = Callable[[HardwareProfile, float], HardwareProfile]
HELPERS: dict[str, Helper] = {
    "disk": faster_disk,
    "memory": faster_memory,
    "compute": faster_compute,
}
DEVICE_HELPERS: dict[str, Helper] = {
    "disk": faster_disk,
    "link": faster_link,
    "CPU memory": faster_memory,
    "GPU memory": on_gpu(faster_memory),
    "GPU": on_gpu(faster_compute),
}


def _faster_text(name: str) -> str:
    return f"{FACTOR:.0f}x faster {name}"


OF_HOST = (MORE_MEMORY, _faster_text("disk"))  # what matters where host memory is short


@dataclass(frozen=True)
class WhatIf:
    """The best plan with something better, and by how much faster the workload runs."""

    change: str
    figures: Figures
    speedup: float  # of the whole run


@dataclass(frozen=True)
class Improvements:
    """A plan for a request, and what was found while it was made."""

    request: Request
    plan: Plan
    common: Common

    def bottleneck(self, phase: str) -> str:
        """The resource which, twice as fast, would shorten a sweep of this plan most."""
        step = self.plan.predicted.step_s[phase]
        own_s = step.cpu_s if self.plan.device else step.overhead_s
        gains = {
            name: step.total_s - kept.plan.predicted.step_s[phase].total_s
            for name, kept in self._kept.items()
        }
        best = max(gains, key=gains.__getitem__)
        return best if gains[best] > own_s / FACTOR else "engine"

    def what_ifs(self) -> Iterator[WhatIf]:
        """Planned anew, for what is better may ask for another plan."""
        same, half_s = self._timed(self.request), self._floors_s()
        for change, better in self._with_more_memory():
            yield self._what_if(change, better, same, self._where_a_gib_is_little(half_s))
        for name, better in self._faster.items():
            yield self._what_if(_faster_text(name), better, self._kept[name], half_s)

    def _what_if(
        self, change: str, better: Request, kept: Timed, floors_s: Sequence[float]
    ) -> WhatIf:
        if change in OF_HOST:
            floors_s = self._where_host_is_short(floors_s)
        found = better_plan(better, self.common, kept, floors_s).predicted
        return WhatIf(change, found, self.plan.predicted.run_s / found.run_s)

    def _with_more_memory(self) -> Iterator[tuple[str, Request]]:
        request = self.request
        yield MORE_MEMORY, replace(request, budget_bytes=request.budget_bytes + GIB)
        if device := request.device:
            more = device.changed(lambda part: part.budget_bytes + GIB)
            yield "1 GiB more GPU memory", replace(request, device=more)

    def _floors_s(self) -> Sequence[float]:
        """With any one rate doubled no run takes less than half of its time."""
        return [bound_s / FACTOR for it in self._searches for bound_s in it.group_bounds_s]

    def _where_a_gib_is_little(self, floors_s: Sequence[float]) -> Sequence[float]:
        """Nor with a GiB more, where what is moved or read are many of them."""
        groups = (group for search in self._searches for group in search.groups)
        return [
            floor_s if floor_s < math.inf and _moves_many(self.request, group) else 0.0
            for group, floor_s in zip(groups, floors_s, strict=True)
        ]

    def _where_host_is_short(self, floors_s: Sequence[float]) -> Sequence[float]:
        """Other groups gain nothing but time for embedding rows, as the plan itself does."""
        groups = (group for search in self._searches for group in search.groups)
        return [
            math.inf if fits_host(self.request, group) else floor_s
            for group, floor_s in zip(groups, floors_s, strict=True)
        ]

    @cached_property
    def _searches(self) -> Sequence[BestFirst]:
        """The one that found the plan, if it was searched for."""
        return [it.search for it in self.common.searched if it.request == self.request][:1]

    @cached_property
    def _faster(self) -> Mapping[str, Request]:
        """With one rate doubled."""
        request = self.request
        helpers = HELPERS if request.device is None else DEVICE_HELPERS
        profiles = {name: helper(request.profile, FACTOR) for name, helper in helpers.items()}
        return {name: replace(request, profile=profile) for name, profile in profiles.items()}

    @cached_property
    def _kept(self) -> Mapping[str, Timed]:
        """The plan itself, then."""
        return {name: self._timed(better) for name, better in self._faster.items()}

    def _timed(self, request: Request) -> Timed:
        return fixed_timed(request, choice_of(self.plan), self.common)


def _moves_many(request: Request, group: Group) -> bool:
    """Whether weights alone exceed by many GiB each memory that they do not fit."""
    device_bytes = request.device.budget_bytes if request.device else 0
    uploaded_bytes = group.model.units_bytes - device_bytes
    read_bytes = uploaded_bytes - request.budget_bytes
    is_read_much = read_bytes >= MANY_GIB * GIB or fits_host(request, group)
    return uploaded_bytes >= MANY_GIB * GIB and is_read_much
