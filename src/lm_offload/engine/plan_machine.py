"""The machine of a plan, this one or one described in a file: its profile and what may be used."""

from __future__ import annotations

from pathlib import Path

from lm_offload.engine.device_budget import (
    described_budget,
    device_budget,
    saved_device,
)
from lm_offload.engine.device_options import computing
from lm_offload.engine.kernel_choice import KernelChoice
from lm_offload.engine.plan_options import PlanOptions
from lm_offload.engine.planning import MARGIN_FRAC, resolve_budget
from lm_offload.engine.profile_choice import profile_for
from lm_offload.errors import ConfigError
from lm_offload.hardware.limits import check_threads
from lm_offload.hardware.machine_file import load_machine
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.hardware.visits import Report
from lm_offload.planner.request import DeviceBudget
from lm_offload.storage.spill_folder import spill_folder, spill_room_bytes
from lm_offload.units import MIB, format_bytes, parse_size

PROFILE_BYTES = 256 * MIB  # for a measurement of this machine, if there is none yet


def profile_of(options: PlanOptions, weights: Path, report: Report) -> HardwareProfile:
    """With the disk that holds `weights`; raises ConfigError for options that have no effect."""
    if options.machine is None:
        return profile_for(weights, kernels_of(options), PROFILE_BYTES, report)
    if options.threads is not None:
        raise ConfigError(
            "--threads was given with --machine; the threads of a described machine are those in "
            "its file."
        )
    return load_machine(options.machine)


def kernels_of(options: PlanOptions) -> KernelChoice:
    """The kernels of this machine on as many threads as were asked for."""
    return KernelChoice.by_name(check_threads(options.threads))


def spill_bytes_of(options: PlanOptions, profile: HardwareProfile) -> int:
    """Disk that a KV cache may take: of a described machine, what it has."""
    if options.machine is None:
        return spill_room_bytes(spill_folder(options.spill_dir))
    if options.spill_dir is not None:
        raise ConfigError(
            "--spill-dir was given with --machine; a described machine has one disk, of the size "
            "in its file."
        )
    return profile.disk_bytes


def device_of(options: PlanOptions, profile: HardwareProfile) -> DeviceBudget | None:
    """What is to compute; of a saved plan its own, where no other was given."""
    name: str | None = options.device
    memory: str | int | None = options.gpu_memory
    saved = options.plan.device if options.plan else None
    if saved is not None and name is None and memory is None:
        name, memory = saved_device(saved)
    if options.machine is not None:
        found = described_budget(name, memory, profile)
    else:
        found = device_budget(name, memory)
    return computing(found, options.attention, options.in_place)


def budget_bytes_of(options: PlanOptions, profile: HardwareProfile) -> int:
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
