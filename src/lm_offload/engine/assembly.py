"""Builds the engine that carries out a plan: machinery for where it computes, and what drafts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lm_offload.engine.cpu_machinery import build_cpu_machinery
from lm_offload.engine.device_machinery import build_device_machinery
from lm_offload.engine.drafting import DraftLoading, drafts_for
from lm_offload.engine.engine import Engine, StopCheck
from lm_offload.engine.machinery import Machinery
from lm_offload.engine.model_files import ModelFiles
from lm_offload.engine.planned import Wishes
from lm_offload.engine.prefix_folder import PrefixFolder, worth_reading
from lm_offload.engine.residents import LoadProgress
from lm_offload.engine.stage_machinery import build_stage_machinery
from lm_offload.hardware.visits import Report, unreported
from lm_offload.kernels.base import Kernels
from lm_offload.pipeline.trace import Trace
from lm_offload.plan import OnOom, Plan
from lm_offload.planner.choose.swap_cost import swap_choice
from lm_offload.planner.request import Request


@dataclass(frozen=True)
class RunOptions:
    """How plans are carried out, whatever they say."""

    overlap: bool
    trace_path: Path | None
    prefix_folder: PrefixFolder | None
    on_load: LoadProgress
    on_quantize: LoadProgress
    on_oom: OnOom = "stop"
    on_measure: Report = unreported


@dataclass(frozen=True)
class Assembly:
    """What an engine is built from, whatever its plan says."""

    files: ModelFiles
    kernels: Kernels
    wishes: Wishes
    options: RunOptions
    trace: Trace

    def engine(self, plan: Plan, request: Request, stops: StopCheck) -> Engine:
        """Load what the plan keeps in memory and start its threads.

        The plan was made for `request`; nothing is left open if this raises.
        """
        machinery = self._machinery(plan, request)
        callbacks = self.options.on_load, self.options.on_quantize
        files = self.wishes.draft
        draft = DraftLoading(files, self.kernels, *callbacks) if files else None
        try:
            drafts = drafts_for(request, plan, draft)
        except BaseException:
            machinery.close()
            raise
        return Engine(machinery, self.files.config.eos_token_ids, stops, drafts)

    def _machinery(self, plan: Plan, request: Request) -> Machinery:
        options = self.options
        parts = self.files, plan, self.kernels, self.trace
        if plan.device is not None:
            build = build_stage_machinery if plan.device.stages else build_device_machinery
            return build(*parts, options.on_load)
        kept = options.prefix_folder
        return build_cpu_machinery(
            *parts,
            options.overlap,
            options.on_load,
            kept if kept and worth_reading(self.files, plan, request.profile) else None,
            self.wishes.spill_folder,
            swap_choice(request, plan),
        )
