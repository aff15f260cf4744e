"""What a measured profile depends on: the machine and disk it was measured on, and versions."""

from __future__ import annotations

import hashlib
import os
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

from lm_offload.hardware.machine import describe_machine
from lm_offload.units import GIB

Fingerprint = tuple[tuple[str, str], ...]

DEVICES = Path("/sys/dev/block")
MOUNTS = Path("/proc/self/mountinfo")
VERSIONS = ("lm_offload", "torch")  # a profile of other versions is of this machine, but stale
DIGITS = 16


class Computing(Protocol):
    """What computes, loaded or not."""

    @property
    def name(self) -> str:
        """Of the kernels."""

    @property
    def threads(self) -> int:
        """Most of a call."""


def fingerprint_of(kernels: Computing, folder: Path, package_version: str) -> Fingerprint:
    """Names and values for this machine, the disk below `folder`, and what computes."""
    machine = describe_machine()
    several = machine.numa_nodes > 1  # profiles of one node do not say
    return (
        ("cpu", machine.cpu),
        ("isa", " ".join(machine.isa)),
        ("cores", str(machine.cores)),
        *([("numa_nodes", str(machine.numa_nodes))] if several else []),
        ("threads", str(kernels.threads)),
        ("memory_gib", str(round(machine.memory_bytes / GIB))),
        ("disk", disk_name(folder)),
        ("kernels", kernels.name),
        ("lm_offload", package_version),
        ("torch", version("torch")),
    )


def machine_id(fingerprint: Fingerprint) -> str:
    """A file name for what does not change with versions."""
    lasting = [pair for pair in fingerprint if pair[0] not in VERSIONS]
    return hashlib.sha256(repr(lasting).encode()).hexdigest()[:DIGITS]


def disk_name(folder: Path) -> str:
    """The disk below a folder with its model and size, or the file system where there is none."""
    number = folder.stat().st_dev
    text = f"{os.major(number)}:{os.minor(number)}"
    device = (DEVICES / text).resolve()
    if not device.is_dir():  # a network or stacked file system has a number of its own
        return _mounted_as(text)
    if (device / "partition").exists():
        device = device.parent
    parts = (device.name, _read(device / "device/model"), _read(device / "size"))
    return " ".join(part for part in parts if part)


def _mounted_as(number: str) -> str:
    """Type and source of the file system with this device number."""
    for line in _read(MOUNTS).splitlines():
        fields = line.split()
        if len(fields) > 2 and fields[2] == number:
            return " ".join(line.partition(" - ")[2].split()[:2])
    return f"device {number}"


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
