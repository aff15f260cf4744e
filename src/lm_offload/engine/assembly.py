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
from lm_offload.kernels.base import Kernels
from lm_offload.pipeline.trace import NullTrace, Trace
from lm_offload.plan import OnOom, Plan
from lm_offload.planner.request import Request
from lm_offload.planner.swap_cost import swap_choice


@dataclass(frozen=True)
class RunOptions:
    """How plans are carried out, whatever they say."""

    overlap: bool
    trace_path: Path | None
    prefix_sharing: bool
    prefix_folder: PrefixFolder | None
    on_load: LoadProgress
    on_quantize: LoadProgress
    on_oom: OnOom = "stop"


def build_engine(
    files: ModelFiles,
    plan: Plan,
    request: Request,
    kernels: Kernels,
    wishes: Wishes,
    options: RunOptions,
    trace: Trace,
    stops: StopCheck,
) -> Engine:
    """Load what the plan keeps in memory and start its threads; `request` is what it was made for.

    Nothing is traced without a path in `options`.
    """
    kept = trace if options.trace_path else NullTrace()
    machinery = _machinery(files, plan, request, kernels, wishes, options, kept)
    callbacks = options.on_load, options.on_quantize
    draft = DraftLoading(wishes.draft, kernels, *callbacks) if wishes.draft else None
    try:
        drafts = drafts_for(request, plan, draft)
    except BaseException:
        machinery.close()
        raise
    return Engine(machinery, files.config.eos_token_ids, stops, drafts)


def _machinery(
    files: ModelFiles,
    plan: Plan,
    request: Request,
    kernels: Kernels,
    wishes: Wishes,
    options: RunOptions,
    trace: Trace,
) -> Machinery:
    parts = files, plan, kernels, trace
    if plan.device is not None:
        build = build_stage_machinery if plan.device.stages else build_device_machinery
        return build(*parts, options.on_load)
    kept = options.prefix_folder
    return build_cpu_machinery(
        *parts,
        options.overlap,
        options.on_load,
        kept if kept and worth_reading(files, plan, request.profile) else None,
        wishes.spill_folder,
        swap_choice(request, plan),
    )
