"""A model with its budgets and the plans that are made for it; no weights are loaded."""

from __future__ import annotations

from collections.abc import Sequence as Items
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from lm_offload.engine.device_profile import with_device
from lm_offload.engine.draft_plan import plan_beside
from lm_offload.engine.format_choices import in_formats
from lm_offload.engine.kernel_choice import KernelChoice
from lm_offload.engine.model_files import ModelFiles
from lm_offload.engine.opening import prepared
from lm_offload.engine.option_kinds import check_workload
from lm_offload.engine.planning import planning_request
from lm_offload.engine.profile_choice import profile_for
from lm_offload.engine.residents import LoadProgress
from lm_offload.errors import BudgetError
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.hardware.visits import Report
from lm_offload.kernels.base import Kernels
from lm_offload.plan import Figures, Objective, Plan, Speculation, Workload
from lm_offload.planner.choose.kept_states import with_kept_states, with_spare_states
from lm_offload.planner.choose.search import make_plan
from lm_offload.planner.choose.spare_sequences import with_spare_sequences
from lm_offload.planner.decided.fixed_plan import fixed_plan
from lm_offload.planner.decided.plan_choice import PlanChoice, choice_of
from lm_offload.planner.request import DeviceBudget, Request
from lm_offload.storage.spill_folder import spill_room_bytes

PROBE_FRAC = 0.25  # of the budget, for what a measurement of the machine needs


@dataclass(frozen=True)
class Wishes:
    """What users say of every plan."""

    budget_bytes: int
    device: DeviceBudget | None
    threads: int | None
    objective: Objective
    speculation: Speculation
    spill_folder: Path
    saved_plan: PlanChoice | None
    draft: ModelFiles | None
    prefix_sharing: bool


class PlannedModel:
    """Makes the plan of a workload from what users wish for, or checks the one they gave."""

    def __init__(
        self,
        choices: Items[ModelFiles],
        kernels: Kernels,
        wishes: Wishes,
        on_quantize: LoadProgress,
        on_measure: Report,
    ) -> None:
        self.choices = choices
        self.files = choices[0]
        self.kernels = kernels
        self.budget_bytes = wishes.budget_bytes
        self.device = wishes.device
        self._wishes = wishes
        self._on_quantize = on_quantize
        self._on_measure = on_measure
        self._planned: tuple[Workload, Plan] | None = None  # the last one

    @cached_property
    def profile(self) -> HardwareProfile:
        """What this machine can do: stored, or measured now in a few seconds."""
        memory_bytes = int(self.budget_bytes * PROBE_FRAC)
        choice = KernelChoice.of(self.kernels)
        largest = self.files.largest_file
        profile = profile_for(largest, choice, memory_bytes, self._on_measure)
        return with_device(profile, self.device, self.kernels, self.budget_bytes, largest)

    @property
    def plan(self) -> Plan | None:
        """The plan that is loaded, if any."""
        return None

    def plan_for(self, workload: Workload) -> Plan:
        """The plan for a workload; loads nothing.

        Raises BudgetError if none fits, RequestError for a workload that is none.
        """
        check_workload(workload)
        if self._planned is None or self._planned[0] != workload:
            plan = plan_beside(self._wishes.draft, self._request(workload), self._make_plan)
            self._planned = workload, plan
        return self._planned[1]

    def shrink(self, device: DeviceBudget, workload: Workload) -> None:
        """Plan with less of the device from now on, in the same formats and not as saved.

        Raises BudgetError, and leaves all as it is, if no plan for the workload fits.
        """
        before = self.device, self._wishes, self.choices
        formats = str(self.files.stored_format), str(self.files.kv_format)
        self.device, self._planned = device, None
        self._wishes = replace(self._wishes, saved_plan=None)
        self.choices = [in_formats(self.choices, *formats)]
        try:
            self.plan_for(workload)
        except BudgetError:
            self.device, self._wishes, self.choices = before
            raise

    def drop_draft(self) -> None:
        """Plan without the draft model from now on, in the same formats."""
        formats = str(self.files.stored_format), str(self.files.kv_format)
        self._wishes, self._planned = replace(self._wishes, draft=None), None
        self.choices = [in_formats(self.choices, *formats)]

    def _make_plan(self, request: Request) -> Plan:
        if (saved := self._wishes.saved_plan) is not None:
            return fixed_plan(request, saved)
        return with_spare_states(request, with_spare_sequences(request, make_plan(request)))

    def predicted(self, workload: Workload) -> Figures:
        """What a workload should show with the plan that is loaded, or else with its best."""
        if self.plan is None:
            return self.plan_for(workload).predicted
        return fixed_plan(self._request(workload), choice_of(self.plan)).predicted

    def prepare(self, plan: Plan | None = None) -> None:
        """Quantize what the cache does not hold yet; the first call that needs weights does too.

        `plan` says in which format, where there are several to choose from. Raises StorageError
        (full disk; another call goes on) or CheckpointError (bad weights).
        """
        if plan is not None:
            self._take_formats(plan)
        self.files = prepared(self.files, self.kernels.threads, self._on_quantize)

    def _take_formats(self, plan: Plan) -> None:
        found = str(self.files.stored_format), str(self.files.kv_format)
        if found != (plan.weight_format, plan.kv_format):
            self.files = in_formats(self.choices, plan.weight_format, plan.kv_format)

    def _request(self, workload: Workload) -> Request:
        wishes = self._wishes
        request = planning_request(
            self.choices,
            replace(workload, objective=wishes.objective),
            self.profile,
            self.budget_bytes,
            speculation=wishes.speculation,
            threads=wishes.threads,
            spill_bytes=spill_room_bytes(wishes.spill_folder),
            device=self.device,
        )
        return with_kept_states(request) if wishes.prefix_sharing else request
