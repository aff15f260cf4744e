"""The model of a plan in every format that may be chosen: a checkpoint's headers, or a config."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from lm_offload.arch.config import ModelConfig
from lm_offload.arch.shipped import find_config, shipped_models
from lm_offload.arch.weights import build_units
from lm_offload.demo import demo_path
from lm_offload.engine.format_choices import AUTO_FORMATS, open_choices
from lm_offload.engine.formats import AUTO, kv_choices, quantized_format, wanted_format
from lm_offload.engine.model_files import ModelFiles
from lm_offload.engine.model_folder import find_folder, kind_of
from lm_offload.engine.opening import max_head_bytes
from lm_offload.engine.plan_options import PlanOptions
from lm_offload.engine.planning import sizes_of
from lm_offload.errors import CheckpointError, ConfigError
from lm_offload.home_path import expanded
from lm_offload.near_name import did_you_mean
from lm_offload.planner.costs.model_sizes import ModelSizes
from lm_offload.planner.costs.sized_model import sizes_of_config
from lm_offload.quant.columns import check_columns
from lm_offload.quant.format import Format, format_of_dtype, parse_format


@dataclass(frozen=True)
class AllowedSizes:
    """A model in the formats that may be chosen, and in those that the user did not allow."""

    allowed: Sequence[ModelSizes]
    forbidden: Sequence[ModelSizes]
    weights: Path  # a file on the disk that the model lies on, or would
    files: ModelFiles | None = None  # None for a bare config


def sizes_in(options: PlanOptions) -> AllowedSizes:
    """From the headers of a checkpoint, or computed from a bare config; raises LMOffloadError."""
    path = expanded(options.model)
    is_folder, is_file = kind_of(path)
    if is_file or (not is_folder and options.model.lower() in shipped_models()):
        config = find_config(options.model)
        return _with_kv_format(_sizes_by_config(config, options), config, options)
    formats = options.weight_format, options.exact, options.plan, options.kv_format
    _check_known(options.model)
    allowed = open_choices(options.model, *formats)
    forbidden: Sequence[ModelFiles] = ()
    if options.weight_format is None and not options.exact and options.plan is None:
        several = open_choices(options.model, AUTO, False, None, options.kv_format)
        forbidden = several[len(allowed) :]
    return AllowedSizes(
        [sizes_of(files) for files in allowed],
        [sizes_of(files) for files in forbidden],
        allowed[0].largest_file,
        allowed[0],
    )


def _check_known(model: str) -> None:
    """Raises CheckpointError for what is no checkpoint, with the names of the configs that ship."""
    try:
        find_folder(model)
    except CheckpointError as error:
        names = shipped_models()
        raise CheckpointError(
            f"{str(error).removesuffix('.')}; or plan for a config that ships"
            f"{did_you_mean(model.lower(), names)}: {', '.join(names)}."
        ) from error


def _sizes_by_config(config: ModelConfig, options: PlanOptions) -> AllowedSizes:
    """Of a model without files."""
    weights = demo_path() / "model.safetensors"
    own, quantized = _in_format(config, _own_format(config)), _quantized(config)
    if options.weight_format == AUTO:
        return AllowedSizes([own] if options.exact else [own, *quantized], (), weights)
    text = options.weight_format or (options.plan.weight_format if options.plan else None)
    wanted = quantized_format(wanted_format(text, options.exact), config)
    if wanted is not None and wanted != own.weight_format:
        _check_not_quantized(config, wanted)
        _check_groups(config, wanted)
        return AllowedSizes([_in_format(config, wanted)], (), weights)
    return AllowedSizes([own], () if options.exact or text else quantized, weights)


def _own_format(config: ModelConfig) -> Format:
    stored = config.expert_format
    return parse_format(stored) if stored else format_of_dtype(config.dtype)


def _check_not_quantized(config: ModelConfig, wanted: Format) -> None:
    if config.expert_format:
        raise ConfigError(
            f"The weight format {wanted} was given, the experts of this model are "
            f"{config.expert_format} already; leave the format out."
        )


def _with_kv_format(sizes: AllowedSizes, config: ModelConfig, options: PlanOptions) -> AllowedSizes:
    name = options.kv_format or (options.plan.kv_format if options.plan else None)
    kv_formats = kv_choices(config, name, options.exact)
    allowed, forbidden = (
        [replace(model, kv_wanted=kv) for model in models for kv in kv_formats]
        for models in (sizes.allowed, sizes.forbidden)
    )
    return replace(sizes, allowed=allowed, forbidden=forbidden)


def _quantized(config: ModelConfig) -> list[ModelSizes]:
    """The model in each format of `auto` that its matrices can be cut for."""
    if config.expert_format:
        return []
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
            if spec.takes(weight_format):
                check_columns(weight_format, spec.shape[1], spec.name)
