"""The profile of this machine with its device: described, stored, or measured when first wanted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lm_offload.device.base import Device
from lm_offload.device.registry import open_device
from lm_offload.engine.profile_choice import store_if_possible
from lm_offload.errors import ConfigError
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.hardware.profile_store import load_stored
from lm_offload.kernels.base import Kernels
from lm_offload.planner.request import DeviceBudget
from lm_offload.units import MIB

SECONDS = 1.8
OF_DEVICE = (  # of a profile, measured with a device
    *("gpu", "h2d", "d2h", "host_copy", "d2h_pageable", "h2d_staged"),
    "link_interference",
)
LEAST_BYTES = 2 * MIB  # of each, also where the budget is less
HOST_BYTES, DEVICE_BYTES = 64 * MIB, 512 * MIB  # at most
PROBE_FRAC = 0.25  # of each budget


def with_device(
    profile: HardwareProfile,
    budget: DeviceBudget | None,
    kernels: Kernels,
    host_bytes: int,
    weights: Path | None = None,
) -> HardwareProfile:
    """The profile for plans with that device, in a quarter of both budgets, but 2 MiB at least.

    The file `weights` is read beside uploads, to see how reads and uploads slow one another.
    What is measured in as much memory as it takes is stored beside the profile of the machine, for
    each device; several devices are taken to be like the first. Raises ConfigError for a device
    that can be described only and is not.
    """
    if budget is None or (profile.gpu is not None and profile.h2d is not None):
        return profile
    budget = budget.each[0]
    device = open_device(budget.name, budget.budget_bytes)
    try:
        stored = _stored(profile, device)
        return stored or _measured(profile, device, budget, kernels, host_bytes, weights)
    finally:
        device.close()


def _stored(profile: HardwareProfile, device: Device) -> HardwareProfile | None:
    """With what was measured of the device before; the rest may be newer."""
    found = load_stored(_of(profile, device).fingerprint) if profile.fingerprint else None
    if found is None:
        return None
    return replace(profile, **{name: getattr(found, name) for name in OF_DEVICE})


def _measured(
    profile: HardwareProfile,
    device: Device,
    budget: DeviceBudget,
    kernels: Kernels,
    host_bytes: int,
    weights: Path | None,
) -> HardwareProfile:
    if device.torch_device.type == "meta":
        raise ConfigError(
            f"{budget.name} cannot be measured; describe a machine with a gpu and h2d in a "
            "profile and name that in LM_OFFLOAD_PROFILE."
        )
    from lm_offload.hardware.device_probe import DeviceProbe  # with torch

    host = _share(host_bytes, HOST_BYTES)
    there = _share(budget.budget_bytes - budget.fixed_bytes, DEVICE_BYTES)
    found = DeviceProbe(device, kernels, host, there, weights).added_to(profile, SECONDS)
    if profile.fingerprint and (host, there) == (HOST_BYTES, DEVICE_BYTES):
        store_if_possible(_of(found, device))
    return found


def _of(profile: HardwareProfile, device: Device) -> HardwareProfile:
    """The profile as one of this machine with this device, which has a file of its own."""
    named = ("device", f"{device.name} {device.model}")
    return replace(profile, fingerprint=(*profile.fingerprint, named))


def _share(budget_bytes: int, most_bytes: int) -> int:
    return max(min(int(budget_bytes * PROBE_FRAC), most_bytes), LEAST_BYTES)
