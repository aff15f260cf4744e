"""From what `lm-offload plan` is asked to a planning request; no engine is built for it.

The model may be a checkpoint, whose headers are read, or a bare config, whose sizes are computed;
the machine may be this one or one that is described in a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from lm_offload.engine.device_options import check_options
from lm_offload.engine.device_profile import with_device
from lm_offload.engine.draft_files import open_draft
from lm_offload.engine.draft_plan import plan_beside
from lm_offload.engine.formats import check_on_device
from lm_offload.engine.model_files import ModelFiles
from lm_offload.engine.plan_machine import (
    budget_bytes_of,
    device_of,
    kernels_of,
    profile_of,
    spill_bytes_of,
)
from lm_offload.engine.plan_models import AllowedSizes, sizes_in
from lm_offload.engine.plan_options import PlanOptions
from lm_offload.engine.recurrent_options import check_recurrent
from lm_offload.errors import ConfigError
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.hardware.visits import Report, unreported
from lm_offload.plan import Plan, Workload
from lm_offload.planner.choose.common import Common
from lm_offload.planner.choose.kept_states import with_kept_states, with_spare_states
from lm_offload.planner.choose.search import make_plan
from lm_offload.planner.costs.model_sizes import ModelSizes
from lm_offload.planner.decided.fixed_plan import fixed_plan
from lm_offload.planner.decided.plan_choice import PlanChoice
from lm_offload.planner.request import Request


@dataclass(frozen=True)
class PlanningCase:
    """A request, and the model in formats that were not allowed."""

    request: Request
    forbidden: Sequence[ModelSizes]
    runnable: bool  # a checkpoint on this machine
    draft: ModelFiles | None = None
    common: Common = field(default_factory=Common)

    def check_runnable(self) -> None:
        """Raise ConfigError where there is nothing to run."""
        if not self.runnable:
            raise ConfigError(
                "Plans can be verified for a checkpoint on this machine only; leave --verify out, "
                "or --machine, and give the folder of a checkpoint."
            )

    def plan(self, choice: PlanChoice | None) -> Plan:
        """The best plan, or the given one if it can hold; raises ConfigError."""

        def make(request: Request) -> Plan:
            if choice is not None:
                return fixed_plan(request, choice)
            return with_spare_states(request, make_plan(request, self.common))

        return plan_beside(self.draft, self.request, make)

    def request_beside(self, plan: Plan) -> Request:
        """The request with the memory that the draft model of `plan` leaves."""
        taken_bytes = plan.draft.used_bytes if plan.draft else 0
        return replace(self.request, budget_bytes=self.request.budget_bytes - taken_bytes)


def planning_case(
    options: PlanOptions, workload: Workload, report: Report = unreported
) -> PlanningCase:
    """Reads headers or a config, and the profile of the machine; raises LMOffloadError.

    A machine without a profile is measured, with a `report` of how far that is.
    """
    sizes = sizes_in(options)
    return case_on(profile_of(options, sizes.weights, report), sizes, options, workload)


def case_on(
    profile: HardwareProfile, sizes: AllowedSizes, options: PlanOptions, workload: Workload
) -> PlanningCase:
    """The same with a profile that is known; raises ConfigError."""
    models, forbidden = sizes.allowed, sizes.forbidden
    budget_bytes, device = budget_bytes_of(options, profile), device_of(options, profile)
    if device is not None:
        check_options(True, options.speculation, None, options.spill_dir, options.draft_model)
        check_on_device(models[0].config, models[0].weight_format)
        if options.machine is None:
            kernels = kernels_of(options).resolve()
            profile = with_device(profile, device, kernels, budget_bytes, sizes.weights)
    check_recurrent(models[0].config, options.speculation, options.draft_model)
    runnable = sizes.files is not None and options.machine is None
    draft = _draft(options, sizes.files)
    request = Request(
        models,
        workload,
        profile,
        budget_bytes,
        speculation=options.speculation,
        threads=options.threads,
        spill_bytes=spill_bytes_of(options, profile),
        device=device,
    )
    return PlanningCase(with_kept_states(request), forbidden, runnable, draft)


def _draft(options: PlanOptions, files: ModelFiles | None) -> ModelFiles | None:
    if options.draft_model is not None and files is None:
        raise ConfigError(
            f"--draft-model was given and {options.model} is a bare config, whose tokens cannot be "
            "compared; give the folder of a checkpoint, or no draft model."
        )
    return open_draft(options.draft_model, files, options.speculation) if files else None
