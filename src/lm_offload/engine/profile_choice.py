"""The profile that plans are made from: given, stored, or measured now in a few seconds."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from lm_offload import __version__
from lm_offload.engine.kernel_choice import KernelChoice
from lm_offload.errors import ConfigError
from lm_offload.hardware.fingerprint import Fingerprint, fingerprint_of
from lm_offload.hardware.machine_file import load_machine
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.hardware.profile_store import fingerprint_differences, load_stored, store
from lm_offload.hardware.visits import Report, unreported

log = logging.getLogger(__name__)

GIVEN_PROFILE = "LM_OFFLOAD_PROFILE"  # a file or the name of a machine that ships


def profile_for(
    weights: Path, kernels: KernelChoice, memory_bytes: int, report: Report = unreported
) -> HardwareProfile:
    """This machine with the disk that holds the file `weights`.

    The first start on a machine measures for about 3 s, in at most `memory_bytes` (but at least
    2 MiB), and stores the result; one that was measured in too little memory to see its rates
    is for starts with as little.
    """
    if (known := known_profile(weights, kernels)) is not None:
        return known
    from lm_offload.engine.calibration import measure_at_start  # with torch

    return measure_at_start(weights, kernels.resolve(), memory_bytes, report)


def known_profile(weights: Path, kernels: KernelChoice) -> HardwareProfile | None:
    """The same where nothing has to be measured, else None."""
    fingerprint = fingerprint_of(kernels, weights.parent, __version__)
    if given := os.environ.get(GIVEN_PROFILE):
        return _given_profile(given, fingerprint)
    return load_stored(fingerprint)


def _given_profile(given: str, fingerprint: Fingerprint) -> HardwareProfile:
    """As it is; one that was described and not measured may be of any machine."""
    profile = load_machine(given)
    if profile.fingerprint and (found := fingerprint_differences(profile, fingerprint)):
        log.warning("The profile %s was measured on another machine: %s.", given, found)
    return profile


def store_if_possible(profile: HardwareProfile) -> None:
    """Keep a measured profile for later, with a warning where that cannot be."""
    try:
        store(profile)
    except ConfigError as error:
        log.warning("The profile of this machine is not kept for later: %s", error)
