"""From what `lm-offload plan` is asked to a planning request; no engine is built for it.

The model may be a checkpoint, whose headers are read, or a bare config, whose sizes are computed;
the machine may be this one or one that is described in a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from lm_offload.arch.config import ModelConfig
from lm_offload.arch.shipped import find_config, shipped_models
from lm_offload.arch.weights import build_units
from lm_offload.demo import demo_path
from lm_offload.engine.calibration import profile_for
from lm_offload.engine.device_budget import check_options, described_budget, device_budget
from lm_offload.engine.device_profile import with_device
from lm_offload.engine.draft_files import open_draft
from lm_offload.engine.draft_plan import plan_beside
from lm_offload.engine.format_choices import AUTO_FORMATS, open_choices
from lm_offload.engine.formats import AUTO, kv_choices, quantized_format, wanted_format
from lm_offload.engine.model_files import ModelFiles, max_head_bytes
from lm_offload.engine.planning import MARGIN_FRAC, resolve_budget, sizes_of
from lm_offload.engine.requests import check_threads
from lm_offload.errors import ConfigError, UnsupportedModelError
from lm_offload.hardware.machine_file import load_machine
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.kernels.base import Kernels
from lm_offload.kernels.resolve import resolve_kernels
from lm_offload.plan import Plan, Speculation, Workload
from lm_offload.planner.common import Common
from lm_offload.planner.fixed_plan import fixed_plan
from lm_offload.planner.plan_text import PlanChoice
from lm_offload.planner.request import DeviceBudget, ModelSizes, Request, sizes_of_config
from lm_offload.planner.search import make_plan
from lm_offload.quant.format import Format, format_of_dtype, parse_format
from lm_offload.quant.packing import check_columns
from lm_offload.storage.spill_folder import spill_folder, spill_room_bytes
from lm_offload.units import MIB, format_bytes, parse_size

PROFILE_BYTES = 256 * MIB  # for a measurement of this machine, if there is none yet


@dataclass(frozen=True)
class PlanOptions:
    """What is to be planned, as users write it; None is the default of each."""

    model: str
    weight_format: str | None = None
    exact: bool = False
    cpu_memory: str | None = None
    gpu_memory: str | None = None
    device: str | None = None
    threads: int | None = None
    machine: str | None = None  # a file, or the name of one that ships
    plan: PlanChoice | None = None
    kv_format: str | None = None
    speculation: Speculation = "off"
    draft_model: str | None = None
    spill_dir: str | None = None


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
            return fixed_plan(request, choice) if choice else make_plan(request, self.common)

        return plan_beside(self.draft, self.request, make)

    def request_beside(self, plan: Plan) -> Request:
        """The request with the memory that the draft model of `plan` leaves."""
        taken_bytes = plan.draft.used_bytes if plan.draft else 0
        return replace(self.request, budget_bytes=self.request.budget_bytes - taken_bytes)


def planning_case(options: PlanOptions, workload: Workload) -> PlanningCase:
    """Reads headers or a config, and the profile of the machine; raises LMOffloadError."""
    sizes = _sizes_in(options)
    models, forbidden = sizes.allowed, sizes.forbidden
    profile = _profile(options, sizes.weights)
    budget_bytes, device = _budget_bytes(options, profile), _device(options, profile)
    if device is not None:
        check_options(True, options.speculation, None, options.spill_dir, options.draft_model)
        if options.machine is None:
            profile = with_device(profile, device, _kernels(options), budget_bytes)
    runnable = sizes.files is not None and options.machine is None
    draft = _draft(options, sizes.files)
    request = Request(
        models,
        workload,
        profile,
        budget_bytes,
        speculation=options.speculation,
        threads=options.threads,
        spill_bytes=_spill_bytes(options, profile),
        device=device,
    )
    return PlanningCase(request, forbidden, runnable, draft)


@dataclass(frozen=True)
class _Sizes:
    allowed: Sequence[ModelSizes]
    forbidden: Sequence[ModelSizes]
    weights: Path  # a file on the disk that the model lies on, or would
    files: ModelFiles | None = None  # None for a bare config


def _sizes_in(options: PlanOptions) -> _Sizes:
    path = Path(options.model).expanduser()
    if path.is_file() or (not path.exists() and options.model.lower() in shipped_models()):
        config = find_config(options.model)
        return _with_kv_format(_sizes_by_config(config, options), config, options)
    formats = options.weight_format, options.exact, options.plan, options.kv_format
    allowed = open_choices(options.model, *formats)
    forbidden: Sequence[ModelFiles] = ()
    if options.weight_format is None and not options.exact and options.plan is None:
        several = open_choices(options.model, AUTO, False, None, options.kv_format)
        forbidden = several[len(allowed) :]
    return _Sizes(
        [sizes_of(files) for files in allowed],
        [sizes_of(files) for files in forbidden],
        allowed[0].largest_file,
        allowed[0],
    )


def _draft(options: PlanOptions, files: ModelFiles | None) -> ModelFiles | None:
    if options.draft_model is not None and files is None:
        raise ConfigError(
            f"--draft-model was given and {options.model} is a bare config, whose tokens cannot be "
            "compared; give the folder of a checkpoint, or no draft model."
        )
    return open_draft(options.draft_model, files, options.speculation) if files else None


def _sizes_by_config(config: ModelConfig, options: PlanOptions) -> _Sizes:
    """Of a model without files."""
    if config.is_moe:
        raise UnsupportedModelError(
            f"{options.model} has experts, which the engine cannot run yet; lm-offload simulate "
            "plans for it."
        )
    weights = demo_path() / "model.safetensors"
    own, quantized = _in_format(config, format_of_dtype(config.dtype)), _quantized(config)
    if options.weight_format == AUTO:
        return _Sizes([own] if options.exact else [own, *quantized], (), weights)
    text = options.weight_format or (options.plan.weight_format if options.plan else None)
    wanted = quantized_format(wanted_format(text, options.exact), config.dtype)
    if wanted is not None:
        _check_groups(config, wanted)
        return _Sizes([_in_format(config, wanted)], (), weights)
    return _Sizes([own], () if options.exact or text else quantized, weights)


def _with_kv_format(sizes: _Sizes, config: ModelConfig, options: PlanOptions) -> _Sizes:
    name = options.kv_format or (options.plan.kv_format if options.plan else None)
    kv_formats = kv_choices(config, name, options.exact)
    allowed, forbidden = (
        [replace(model, kv_wanted=kv) for model in models for kv in kv_formats]
        for models in (sizes.allowed, sizes.forbidden)
    )
    return replace(sizes, allowed=allowed, forbidden=forbidden)


def _quantized(config: ModelConfig) -> list[ModelSizes]:
    """The model in each format of `auto` that its matrices can be cut for."""
    models = []
    for weight_format in map(parse_format, AUTO_FORMATS):
        with suppress(ConfigError):
            _check_groups(config, weight_format)
            models.append(_in_format(config, weight_format))
    return models


def _in_format(config: ModelConfig, weight_format: Format) -> ModelSizes:
    return sizes_of_config(config, build_units(config, max_head_bytes(config)), weight_format)


def _check_groups(config: ModelConfig, weight_format: Format) -> None:
    for unit in build_units(config, max_head_bytes(config)):
        for spec in unit.loaded:
            if len(spec.shape) == 2:
                check_columns(weight_format, spec.shape[1], spec.name)


def _profile(options: PlanOptions, weights: Path) -> HardwareProfile:
    if options.machine is None:
        return profile_for(weights, _kernels(options), PROFILE_BYTES)
    if options.threads is not None:
        raise ConfigError(
            "--threads was given with --machine; the threads of a described machine are those in "
            "its file."
        )
    return load_machine(options.machine)


def _kernels(options: PlanOptions) -> Kernels:
    return resolve_kernels(check_threads(options.threads))


def _spill_bytes(options: PlanOptions, profile: HardwareProfile) -> int:
    """Disk that a KV cache may take: of a described machine, what it has."""
    if options.machine is None:
        return spill_room_bytes(spill_folder(options.spill_dir))
    if options.spill_dir is not None:
        raise ConfigError(
            "--spill-dir was given with --machine; a described machine has one disk, of the size "
            "in its file."
        )
    return profile.disk_bytes


def _device(options: PlanOptions, profile: HardwareProfile) -> DeviceBudget | None:
    """What is to compute; of a saved plan its own, where no other was given."""
    name: str | None = options.device
    memory: str | int | None = options.gpu_memory
    saved = options.plan.device if options.plan else None
    if saved is not None and name is None and memory is None:
        name, memory = saved.name, saved.budget
    if options.machine is not None:
        return described_budget(name, memory, profile)
    return device_budget(name, memory)


def _budget_bytes(options: PlanOptions, profile: HardwareProfile) -> int:
    """Of this machine what is free, of a described one what it has."""
    if options.machine is None:
        return resolve_budget(options.cpu_memory)
    memory_bytes = profile.cpu.memory_bytes
    if options.cpu_memory is None:
        return int(memory_bytes * (1 - MARGIN_FRAC))
    budget_bytes = parse_size(options.cpu_memory, memory_bytes)
    if not 0 < budget_bytes <= memory_bytes:
        raise ConfigError(
            f"A CPU memory budget of {options.cpu_memory} was given, {profile.name} has "
            f"{format_bytes(memory_bytes)}; give more than zero and no more than that."
        )
    return budget_bytes
