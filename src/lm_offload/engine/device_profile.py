"""The profile of this machine with its device: described, or measured when it is first wanted."""

from __future__ import annotations

from lm_offload.device.registry import open_device
from lm_offload.errors import ConfigError
from lm_offload.hardware.device_probe import DeviceProbe
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.kernels.base import Kernels
from lm_offload.planner.request import DeviceBudget
from lm_offload.units import MIB

SECONDS = 1.0
LEAST_BYTES = 2 * MIB  # of each, also where the budget is less
HOST_BYTES, DEVICE_BYTES = 64 * MIB, 512 * MIB  # at most
PROBE_FRAC = 0.25  # of each budget


def with_device(
    profile: HardwareProfile, budget: DeviceBudget | None, kernels: Kernels, host_bytes: int
) -> HardwareProfile:
    """The profile for plans with that device, in a quarter of both budgets, but 2 MiB at least.

    Raises ConfigError for a device that can be described only and is not.
    """
    if budget is None or (profile.gpu is not None and profile.h2d is not None):
        return profile
    device = open_device(budget.name, budget.budget_bytes)
    try:
        if device.torch_device.type == "meta":
            raise ConfigError(
                f"{budget.name} cannot be measured; describe a machine with a gpu and h2d in a "
                "profile and name that in LM_OFFLOAD_PROFILE."
            )
        probe = DeviceProbe(
            device,
            kernels,
            _share(host_bytes, HOST_BYTES),
            _share(budget.budget_bytes - budget.fixed_bytes, DEVICE_BYTES),
        )
        return probe.added_to(profile, SECONDS)
    finally:
        device.close()


def _share(budget_bytes: int, most_bytes: int) -> int:
    return max(min(int(budget_bytes * PROBE_FRAC), most_bytes), LEAST_BYTES)
