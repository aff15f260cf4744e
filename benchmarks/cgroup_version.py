"""Where memory control groups can be made: of version 1 or 2, in which folder."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lm_offload.errors import ConfigError


class CgroupUnavailableError(ConfigError):
    """Memory control groups cannot be made here; the message says what is missing."""


@dataclass(frozen=True)
class Version:
    """The file names of one cgroup version; `settings` are written where the file exists."""

    limit: str
    peak: str
    oom_events: str
    settings: tuple[tuple[str, str], ...]


V1 = Version(
    limit="memory.limit_in_bytes",
    peak="memory.max_usage_in_bytes",
    oom_events="memory.oom_control",
    settings=(("memory.swappiness", "0"),),
)
V2 = Version(
    limit="memory.max",
    peak="memory.peak",
    oom_events="memory.events",
    settings=(("memory.swap.max", "0"), ("memory.oom.group", "1")),
)


def current_group(proc: Path = Path("/proc/self")) -> tuple[Version, Path]:
    """The version and directory of the memory group this process is in.

    A container's mount may begin below the group that /proc names; then the mount's own root is
    the group. Raises CgroupUnavailableError where no memory controller is mounted.
    """
    for line in (proc / "mountinfo").read_text().splitlines():
        fields, _, tail = line.partition(" - ")
        kind, _, options = tail.split(maxsplit=2)
        root, mount = fields.split()[3:5]
        if kind == "cgroup" and "memory" in options.split(","):
            return V1, _below_mount(mount, root, _group_path(proc, "memory"))
        if kind == "cgroup2" and "memory" in text_of(Path(mount) / "cgroup.controllers").split():
            return V2, _below_mount(mount, root, _group_path(proc, ""))
    raise CgroupUnavailableError(
        "No memory control group is mounted on this machine, so a limit cannot be enforced; "
        "mount cgroup2 or run on a Linux host that has it."
    )


def _group_path(proc: Path, controller: str) -> str:
    for line in (proc / "cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return path
    return "/"


def _below_mount(mount: str, root: str, path: str) -> Path:
    relative = os.path.relpath(path, root)
    group = Path(mount) / relative
    return group if not relative.startswith("..") and group.is_dir() else Path(mount)


def text_of(path: Path) -> str:
    """Of a file of the kernel; empty where there is none."""
    try:
        return path.read_text()
    except OSError:
        return ""


def parent_for_children(current: Path) -> Path:
    """The nearest version-2 group that may hand the memory controller to its children.

    A group with processes of its own may not (except the root), so this is often the parent.
    """
    for group in (current, current.parent):
        control = group / "cgroup.subtree_control"
        if "memory" not in text_of(control).split():
            with suppress(OSError):
                control.write_text("+memory")
        if "memory" in text_of(control).split():
            return group
    raise CgroupUnavailableError(
        "The memory controller is not delegated to this control group; "
        "run as root, or under `systemd-run --scope -p Delegate=yes`."
    )
