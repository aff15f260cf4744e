"""The error of a device that has no memory left, with the bytes that are lacking."""

from __future__ import annotations

from lm_offload.errors import DeviceMemoryError
from lm_offload.units import format_bytes


def no_memory(doing: str, lacking_bytes: int) -> DeviceMemoryError:
    """`lacking_bytes` is 0 where the device does not say."""
    lacking = f" ({format_bytes(lacking_bytes)} lacking)" if lacking_bytes else ""
    what = f"The GPU has no memory left for {doing}{lacking}"
    message = f"{what}; lower --gpu-memory so that the plan leaves more room."
    return DeviceMemoryError(message, what, lacking_bytes)
