"""Machines described in YAML: files of the user, and test beds of papers that ship as data."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from lm_offload.errors import ConfigError
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.hardware.profile_text import profile_from_dict
from lm_offload.home_path import expanded
from lm_offload.near_name import did_you_mean
from lm_offload.yaml_file import read_yaml

MACHINES = files("lm_offload.hardware") / "machines"


def shipped_machines() -> tuple[str, ...]:
    """The names of the machines that ship, sorted."""
    names = (entry.name for entry in MACHINES.iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml")))


def load_machine(machine: str | Path) -> HardwareProfile:
    """The machine in a YAML (or JSON) file, or one that ships, by its name.

    Raises ConfigError for names, keys and values that cannot be.
    """
    file = _find(machine)
    profile = profile_from_dict(read_yaml(file), file.name)
    if profile.gpu is not None and (profile.h2d is None or profile.d2h is None):
        missing = "h2d" if profile.h2d is None else "d2h"
        raise ConfigError(
            f"{file.name} has a gpu but no {missing}; describe the link in both directions, "
            "h2d and d2h."
        )
    return profile


def _find(machine: str | Path) -> Traversable:
    path = expanded(machine)
    if path.is_file():
        return path
    name = str(machine).lower()
    if name not in shipped_machines():
        raise ConfigError(
            f"{str(machine)!r}{did_you_mean(name, shipped_machines())} is neither a file nor a "
            "machine that ships; write the path of a YAML file or one of "
            f"{', '.join(shipped_machines())}."
        )
    return MACHINES / f"{name}.yaml"
