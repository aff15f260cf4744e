"""Measured profiles in the user's cache folder: `profiles/<machine id>.json`.

One file for each machine, disk and number of threads. A file that is replaced stays beside the
new one as `.json.old`, since a person may have edited it.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

from lm_offload.errors import ConfigError
from lm_offload.hardware.fingerprint import Fingerprint, machine_id
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.hardware.profile_text import profile_from_dict, profile_to_dict
from lm_offload.storage.durable import write_whole
from lm_offload.storage.user_cache import user_cache_folder

log = logging.getLogger(__name__)


def read_profile(file: Path) -> HardwareProfile:
    """The profile in a JSON file; raises ConfigError, in one sentence, for anything else."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} cannot be read as JSON ({error}); correct it.") from error
    return profile_from_dict(values, file.name)


def write_profile(file: Path, profile: HardwareProfile) -> None:
    """Write `file` whole or not at all; raises ConfigError where that cannot be."""
    text = json.dumps(profile_to_dict(profile), indent=1) + "\n"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, text.encode())
    except OSError as error:
        raise ConfigError(f"{file} cannot be written ({error}); name another file.") from error


def load_stored(fingerprint: Fingerprint) -> HardwareProfile | None:
    """The profile of this machine, or None; one that cannot be used is warned of."""
    file = stored_file(fingerprint)
    if not file.exists():
        return None
    try:
        profile = read_profile(file)
    except ConfigError as error:
        log.warning("The stored profile is broken and will be measured anew: %s", error)
        return None
    if differences := fingerprint_differences(profile, fingerprint):
        log.warning(
            "The stored profile of this machine is stale and will be measured anew: %s.",
            differences,
        )
        return None
    return profile


def store(profile: HardwareProfile) -> None:
    """Keep a measured profile for later; raises ConfigError where the folder is not writable."""
    file = stored_file(profile.fingerprint)
    if file.exists():
        os.replace(file, file.with_suffix(".json.old"))
    write_profile(file, profile)


def stored_file(fingerprint: Fingerprint) -> Path:
    """Where the profile of a machine lies."""
    return user_cache_folder() / "profiles" / f"{machine_id(fingerprint)}.json"


def fingerprint_differences(profile: HardwareProfile, fingerprint: Fingerprint) -> str:
    """What a measured profile was measured on that is not so now; empty where all is the same."""
    known = dict(profile.fingerprint)
    changes = (
        f"{name} was {known.get(name)!r} and is {value!r}"
        for name, value in fingerprint
        if known.get(name) != value
    )
    return "; ".join(changes)
