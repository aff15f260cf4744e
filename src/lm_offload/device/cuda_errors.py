"""Errors of CUDA, of its libraries and of Triton's launches, as one sentence each."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import torch

from lm_offload.device.no_memory import no_memory
from lm_offload.errors import DeviceError
from lm_offload.units import parse_size

# Libraries raise plain RuntimeErrors: cuBLAS takes memory beside torch's allocator, Triton launches
# through the driver.
_OF_CUDA = re.compile(
    r"(CUDA|Triton) (driver |unknown )?error|CUDA driver initialization|No CUDA GPUs", re.IGNORECASE
)
_NO_MEMORY = re.compile(r"out of memory|CUBLAS_STATUS_ALLOC_FAILED|cublasCreate")


@contextlib.contextmanager
def errors_named(doing: str) -> Iterator[None]:
    """DeviceError, or DeviceMemoryError, in the place of what CUDA raises; all others pass."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise no_memory(doing, _asked_bytes(str(error))) from error
    except RuntimeError as error:
        if not (isinstance(error, torch.AcceleratorError) or _OF_CUDA.match(str(error))):
            raise
        if _NO_MEMORY.search(str(error)):
            raise no_memory(doing, 0) from error
        raise DeviceError(
            f"The GPU failed while {doing} ({str(error).splitlines()[0]}); outputs that were "
            "returned are good, start again for the others."
        ) from error


def _asked_bytes(message: str) -> int:
    """What torch's allocator tried to get, by its own words."""
    found = re.search(r"Tried to allocate ([\d.]+ \w+)", message)
    return parse_size(found[1]) if found else 0
