"""Measures this machine: in a few seconds at the first start, or for a minute when asked to."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from lm_offload import __version__
from lm_offload.engine.overhead import visits_of, with_overhead
from lm_offload.engine.profile_choice import store_if_possible
from lm_offload.errors import ConfigError
from lm_offload.hardware.calibrate import (
    ENOUGH_FILE_BYTES,
    Calibration,
    calibrate,
    is_enough_memory,
)
from lm_offload.hardware.effort import START, TIGHT, Effort
from lm_offload.hardware.fingerprint import disk_name, fingerprint_of
from lm_offload.hardware.limits import available_memory_bytes
from lm_offload.hardware.memory_probe import trim_heap
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.hardware.profile_notes import disturbance_note
from lm_offload.hardware.profile_store import load_stored
from lm_offload.hardware.visits import Report
from lm_offload.kernels.base import Kernels
from lm_offload.storage.user_cache import user_cache_folder
from lm_offload.units import format_bytes

log = logging.getLogger(__name__)

ROUGH = (("seen", "in little memory, or by a small file"),)  # kept apart from sound profiles


def measure_at_start(
    weights: Path, kernels: Kernels, memory_bytes: int, report: Report
) -> HardwareProfile:
    """This machine in a few seconds, with the disk that holds the file `weights`.

    Stored; where `memory_bytes` are too few to see the rates of memory, for starts with as little,
    which do not measure again.
    """
    place, enough = _large_place(weights), is_enough_memory(memory_bytes)
    if not (enough and _is_large(place)) and (known := _known_rough(place, kernels)) is not None:
        return known
    log.warning(
        "No profile of this machine is stored, so it is measured now, in a few seconds; run "
        "lm-offload profile once, which takes a minute and makes plans and predictions better."
    )
    found = _measure(place, kernels, START if enough else TIGHT, memory_bytes, report)
    if not found.is_sound:
        log.warning("It was measured in little memory, which holds for starts with as little.")
    profile = found.profile if found.is_sound else _rough(found.profile)
    store_if_possible(profile)
    return profile


def measure_now(
    folder: Path | None, kernels: Kernels, effort: Effort, report: Report
) -> HardwareProfile:
    """Measure with half of the free memory and store the result; None is the cache folder.

    Raises ConfigError for a folder that is not there or that cannot be written.
    """
    if folder is not None and not folder.is_dir():
        raise ConfigError(
            f"The disk path {folder} is not a folder; name one on the disk to measure."
        )
    place = folder or user_cache_folder()
    place.mkdir(parents=True, exist_ok=True)
    memory_bytes = available_memory_bytes() // 2
    found = _measure(place, kernels, effort, memory_bytes, report)
    if found.is_sound:
        store_if_possible(found.profile)
    else:
        log.warning(
            "The profile is not stored: %s of memory are too few to see past the cache; free some.",
            format_bytes(memory_bytes),
        )
    return found.profile


def _measure(
    place: Path, kernels: Kernels, effort: Effort, memory_bytes: int, report: Report
) -> Calibration:
    """Everything that plans depend on; see `calibrate` for `place`."""
    visits = visits_of(kernels, memory_bytes, effort)
    found = calibrate(kernels, place, effort, memory_bytes, visits.between(report))
    visits.visit()
    if note := disturbance_note(found.profile):
        log.warning("%s", note)
    folder = place if place.is_dir() else place.parent
    fingerprint = fingerprint_of(kernels, folder, __version__)
    profile = replace(found.profile, fingerprint=fingerprint)
    profile = with_overhead(profile, kernels, visits)
    trim_heap()
    return replace(found, profile=profile)


def _known_rough(place: Path, kernels: Kernels) -> HardwareProfile | None:
    """What an earlier start could see of this machine that saw no more than this one can."""
    folder = place if place.is_dir() else place.parent
    return load_stored((*fingerprint_of(kernels, folder, __version__), *ROUGH))


def _rough(profile: HardwareProfile) -> HardwareProfile:
    """Stored in a place of its own, where no start that can measure better looks."""
    return replace(profile, fingerprint=(*profile.fingerprint, *ROUGH))


def _is_large(place: Path) -> bool:
    """Whether the rate of the disk can be seen: in a folder a large file is made."""
    return place.is_dir() or place.stat().st_size >= ENOUGH_FILE_BYTES


def _large_place(weights: Path) -> Path:
    """The weights, or the cache folder where they are too small to see the rate of their disk."""
    cache = user_cache_folder()
    if _is_large(weights):
        return weights
    with suppress(OSError):
        cache.mkdir(parents=True, exist_ok=True)
        if disk_name(cache) == disk_name(weights.parent) and os.access(cache, os.W_OK):
            return cache
    return weights
