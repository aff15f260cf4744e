"""Whether a GPU computes with Triton's kernels or with plain torch; decided once, said if not."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from lm_offload.kernels.base import Kernels

log = logging.getLogger(__name__)


def gpu_kernels(device: torch.device, torch_operations: Kernels) -> Kernels:
    """The operations on `device`: in Triton where it is a CUDA device and Triton works on it.

    Everything else is done by `torch_operations`, which need nothing but torch on that device.
    """
    if device.type != "cuda":
        return torch_operations
    try:
        kernels = _tried(device, torch_operations)
    except Exception as error:  # compilers, drivers and imports fail each in their own way
        log.warning(
            "Triton does not work on %s (%s): packed weights and KV caches are turned into floats "
            "by plain torch there, which takes several passes over them; install lm-offload[gpu] "
            "and a C compiler to get its kernels.",
            device,
            str(error).strip().partition("\n")[0] or type(error).__name__,
        )
        return torch_operations
    return kernels


def _tried(device: torch.device, torch_operations: Kernels) -> Kernels:
    """Triton's operations, after each of them has run and its result was looked at."""
    from lm_offload.kernels.triton_check import check
    from lm_offload.kernels.triton_kernels import TritonKernels

    kernels = TritonKernels(torch_operations)
    with torch.cuda.device(device):  # Triton launches on the current one
        check(kernels, torch_operations, device)
    return kernels
