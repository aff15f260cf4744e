"""Devices by name, and in one sentence why one cannot be had.

::

    cuda:0               a GPU of this machine; cuda is the first
    standin:2GB/s:1GiB   host memory that plays a device of 1 GiB behind a link of 2 GB/s
    null:24GiB           for plans alone
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from lm_offload.device.base import Device, DeviceMemory
from lm_offload.errors import ConfigError
from lm_offload.units import GIB, parse_size

DEFAULT_DEVICE = "cuda:0"
LEAST_CAPABILITY = (7, 5)
STAND_IN_BYTES = 4 * GIB
FASTEST_BYTES_PER_S = 1e12  # a stand-in whose link is not to be seen
_DRIVER = Path("/proc/driver/nvidia/version")
_CUDA = re.compile(r"cuda(:\d+)?")
_ARCHITECTURE = re.compile(r"(sm|compute)_(\d+)(\d)")  # major and minor of what code is for


def is_device_name(name: str) -> bool:
    """Whether `name` is one of a device, there or not."""
    return _CUDA.fullmatch(name) is not None or name.partition(":")[0] in ("standin", "null")


def open_device(name: str, limit_bytes: int | None = None) -> Device:
    """The device of that name; of a GPU the process takes no more than `limit_bytes`.

    Raises ConfigError for a name that is none and for a GPU that cannot be used.
    """
    kind = name.partition(":")[0]
    if kind == "standin":
        return _stand_in(name)
    if kind == "null":
        return _null(name)
    return _cuda(name, limit_bytes)


def _stand_in(name: str) -> Device:
    from lm_offload.device.stand_in import StandIn

    return StandIn(name, *_rate_and_memory(name))


def _rate_and_memory(name: str) -> tuple[int, float]:
    """Bytes, and bytes per second, of a stand-in of that name."""
    _, rate, memory, more = f"{name}:::".split(":", 3)
    try:
        bytes_per_s = parse_size(rate.removesuffix("/s")) if rate else FASTEST_BYTES_PER_S
        memory_bytes = parse_size(memory) if memory else STAND_IN_BYTES
    except ConfigError:
        bytes_per_s = memory_bytes = 0
    if not bytes_per_s or not memory_bytes or more.strip(":"):
        raise ConfigError(
            f"{name!r} is no device; a stand-in is standin, standin:2GB/s or standin:2GB/s:1GiB, "
            "with a rate and a memory above zero."
        )
    return memory_bytes, bytes_per_s


def _null(name: str) -> Device:
    from lm_offload.device.null import NullDevice

    try:
        return NullDevice(name, parse_size(name.partition(":")[2] or "0"))
    except ConfigError:
        raise ConfigError(
            f"{name!r} is no device; one for plans alone is written null:24GiB."
        ) from None


def _cuda(name: str, limit_bytes: int | None) -> Device:
    if not _CUDA.fullmatch(name):
        raise ConfigError(
            f"{name!r} is no device; write cuda:0 for the first GPU, or standin:2GB/s for a test."
        )
    if (reason := missing_gpu()) is not None:
        raise ConfigError(f"{name} is wanted, but {reason}")
    import torch

    from lm_offload.device.cuda import CudaDevice
    from lm_offload.device.cuda_errors import errors_named

    device = torch.device(name if ":" in name else DEFAULT_DEVICE)
    if (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"{name} was given, this machine has {torch.cuda.device_count()} GPUs; count from 0."
        )
    with errors_named("making a context"):
        capability = torch.cuda.get_device_capability(device)
    _check_capability(name, capability)
    return CudaDevice(str(device), limit_bytes)


def _check_capability(name: str, capability: tuple[int, int]) -> None:
    """Raises ConfigError for a GPU that is too old, or that this torch has no code for."""
    import torch

    if capability < LEAST_CAPABILITY:
        raise ConfigError(
            f"{name} has compute capability {capability[0]}.{capability[1]}, allowed is 7.5 or "
            "later; leave GPU memory out to compute on the CPU."
        )
    if not _has_code_for(capability, torch.cuda.get_arch_list()):
        raise ConfigError(
            f"This torch ({torch.__version__}) has no code for {name}, whose compute capability is "
            f"{capability[0]}.{capability[1]}; install a build that has, or leave GPU memory out "
            "to compute on the CPU."
        )


def _has_code_for(capability: tuple[int, int], built_for: Sequence[str]) -> bool:
    """Binaries (sm_86) run on later minor versions of their major one, PTX (compute_90) on all."""
    found = (_ARCHITECTURE.fullmatch(name) for name in built_for)
    codes = [(code[1], (int(code[2]), int(code[3]))) for code in found if code]
    return any(
        version <= capability and (kind == "compute" or version[0] == capability[0])
        for kind, version in codes
    )


def gpu_memories() -> dict[str, DeviceMemory]:
    """The GPUs of this machine by name, each with its model, and their memory."""
    import torch

    names = (f"cuda:{index}" for index in range(torch.cuda.device_count()))
    return {
        f"{name} ({torch.cuda.get_device_name(name)})": DeviceMemory(*torch.cuda.mem_get_info(name))
        for name in names
    }


def missing_gpu() -> str | None:
    """Why no GPU can be used here, with the way out; None where one can."""
    import torch

    leave_out = "or leave GPU memory out, and the device, to compute on the CPU."
    if torch.version.cuda is None:
        built_for = "ROCm" if torch.version.hip else "CPUs only"
        return (
            f"this torch ({torch.__version__}) is built for {built_for}; install one with CUDA "
            f"{leave_out}"
        )
    if torch.cuda.is_available():
        return None
    if not _DRIVER.exists():
        return f"this machine has no NVIDIA driver; install one {leave_out}"
    if torch.cuda.device_count() == 0:
        return f"the driver shows no GPU; check nvidia-smi and CUDA_VISIBLE_DEVICES {leave_out}"
    return (
        f"the driver is too old for CUDA {torch.version.cuda} of this torch; update the driver "
        f"{leave_out}"
    )
