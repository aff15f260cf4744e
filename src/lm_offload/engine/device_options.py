"""Options of what is computed where beside a device, and those that cannot be given with one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from lm_offload.device_plan import InPlaceKind
from lm_offload.errors import ConfigError
from lm_offload.planner.choose.draft_rows import FORCED
from lm_offload.planner.request import DeviceBudget

AUTO = "auto"


def computing(budget: DeviceBudget | None, attention: str, in_place: str) -> DeviceBudget | None:
    """The same, with attention and units of host memory computed where a user wants them.

    Raises ConfigError for what cannot be.
    """
    wanted: tuple[tuple[str, Any, tuple[str, ...]], ...] = (
        ("attention", attention, ("device", "cpu")),
        ("in_place", in_place, get_args(InPlaceKind)),
    )
    for name, place, allowed in wanted:
        if place == AUTO:
            continue
        if place not in allowed:
            raise ConfigError(
                f"{name} is {place!r}, allowed are auto, {', '.join(allowed[:-1])} and "
                f"{allowed[-1]}; choose one."
            )
        if budget is None:
            raise ConfigError(
                f"{name}={place} was given without GPU memory; it says where that is computed "
                "beside a GPU, give both or leave it out."
            )
        if place != allowed[0] and budget.stages:
            raise ConfigError(
                f"{name}={place} was given with {len(budget.stages)} devices, which compute all of "
                "their own layers; leave it out or give one device."
            )
        budget = replace(budget, **{name: place})
    return budget


def check_options(
    overlap: bool,
    speculation: str,
    prefix_cache: str | Path | None,
    spill_dir: str | Path | None,
    draft_model: str | Path | None,
) -> None:
    """Raises ConfigError for options that cannot take effect where a device computes."""
    unverified = "drafts are not verified on a device yet"
    conflicts = (
        (not overlap, "overlap is off", "uploads always overlap"),
        (speculation in FORCED, f"speculation is {speculation!r}", unverified),
        (draft_model is not None, "a draft model was given", unverified),
        (prefix_cache is not None, "a prefix cache was given", "keys and values on a device are not"
         " kept in a folder yet"),
        (spill_dir is not None, "spill_dir was given", "no KV cache lies on disk beside a device"),
    )  # fmt: skip
    for found, given, reason in conflicts:
        if found:
            raise ConfigError(f"GPU memory was given and {given}; {reason}, leave one of them out.")
