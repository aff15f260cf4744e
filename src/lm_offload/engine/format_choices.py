"""The formats that the planner may choose from: one of weights and of KV, or several for `auto`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from lm_offload.engine.formats import AUTO, kv_choices
from lm_offload.engine.model_files import ModelFiles
from lm_offload.engine.opening import open_model
from lm_offload.errors import ConfigError
from lm_offload.planner.decided.plan_choice import PlanChoice

AUTO_FORMATS = ("int8:64", "int4:64")  # beside the checkpoint's own


def open_choices(
    model: str | Path,
    weight_format: str | None,
    exact: bool,
    plan: PlanChoice | None = None,
    kv_format: str | None = None,
) -> Sequence[ModelFiles]:
    """The model in every format that may be chosen; headers are read, nothing is quantized.

    Without a format a plan's own is taken. Raises what `open_model` raises.
    """
    choices = _open_formats(model, weight_format, exact, plan)
    if kv_format is None and plan is not None:
        kv_format = plan.kv_format
    kv_formats = kv_choices(choices[0].config, kv_format, exact)
    return [replace(files, kv_wanted=kv) for files in choices for kv in kv_formats]


def _open_formats(
    model: str | Path, weight_format: str | None, exact: bool, plan: PlanChoice | None
) -> Sequence[ModelFiles]:
    if weight_format is None and plan is not None:
        return [open_model(model, plan.weight_format, exact)]
    if weight_format != AUTO:
        return [open_model(model, weight_format, exact)]
    own = open_model(model, None, exact)
    if exact or own.weight_format is not None:
        return [own]
    return [own, *_quantized(model)]


def _quantized(model: str | Path) -> Iterator[ModelFiles]:
    for name in AUTO_FORMATS:
        try:
            yield open_model(model, name)
        except ConfigError:
            continue  # a matrix that cannot be cut into groups


def in_formats(choices: Sequence[ModelFiles], weight_format: str, kv_format: str) -> ModelFiles:
    """The one of the choices that a plan is for."""
    wanted = weight_format, kv_format
    return next(
        files for files in choices if (str(files.stored_format), str(files.kv_format)) == wanted
    )
