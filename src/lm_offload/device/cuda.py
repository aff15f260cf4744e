"""A CUDA device through torch: its streams and events, one tensor of memory, registered host pages.

Nothing here waits for the whole device. Host arenas are registered as they are, page-aligned and
of exact size; torch's own allocator of pinned memory would round them up to powers of two.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from lm_offload.device.base import CONTEXT_BYTES, DeviceMemory, Event, Work
from lm_offload.device.no_memory import no_memory
from lm_offload.device.tier import DeviceTier
from lm_offload.errors import DeviceError
from lm_offload.kernels.device_kernels import DeviceKernels
from lm_offload.kernels.triton_resolve import gpu_kernels
from lm_offload.units import parse_size

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.kernels.base import Kernels

PINNED_BEFORE = 712  # cudaErrorHostMemoryAlreadyRegistered: by another device, but for all of them


class CudaEvent:
    """See `Event`."""

    def __init__(self, event: torch.cuda.Event) -> None:
        self.event = event

    def synchronize(self) -> None:
        """See `Event.synchronize`."""
        with _errors_named("waiting for the GPU"):
            self.event.synchronize()

    def elapsed_s(self, since: Event) -> float:
        """See `Event.elapsed_s`."""
        assert isinstance(since, CudaEvent)
        return float(since.event.elapsed_time(self.event)) / 1e3


class CudaStream:
    """See `Stream`; kernels are launched by the caller and run beside it."""

    def __init__(self, stream: torch.cuda.Stream) -> None:
        self._stream = stream

    def launch(self, work: Work) -> None:
        """See `Stream.launch`."""
        with _errors_named("computing on the GPU"), torch.cuda.stream(self._stream):
            work()

    def copy_async(self, source: Tensor, target: Tensor) -> None:
        """See `Stream.copy_async`."""
        with _errors_named("copying to or from the GPU"), torch.cuda.stream(self._stream):
            target.copy_(source, non_blocking=True)

    def record(self) -> CudaEvent:
        """See `Stream.record`."""
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(self._stream)
        return CudaEvent(event)

    def wait(self, event: Event) -> None:
        """See `Stream.wait`."""
        assert isinstance(event, CudaEvent)
        self._stream.wait_event(event.event)


class CudaDevice:
    """See `Device`. `limit_bytes`: the most that the process takes of it, context included."""

    fixed_bytes = CONTEXT_BYTES

    def __init__(self, name: str, limit_bytes: int | None = None) -> None:
        self.name = name
        self.model = torch.cuda.get_device_name(name)
        self.torch_device = torch.device(name)
        self._pinned: list[Tensor] = []
        self.compute, self.h2d, self.d2h = (
            CudaStream(torch.cuda.Stream(self.torch_device))  # type: ignore[no-untyped-call]
            for _ in range(3)
        )
        if limit_bytes is not None:
            self._limit(limit_bytes)

    def memory(self) -> DeviceMemory:
        """See `Device.memory`."""
        return DeviceMemory(*torch.cuda.mem_get_info(self.torch_device))

    def tier(self, capacity_bytes: int) -> DeviceTier:
        """See `Device.tier`."""
        free_bytes = self.memory().free_bytes
        try:
            memory = torch.empty(capacity_bytes, dtype=torch.uint8, device=self.torch_device)
        except torch.OutOfMemoryError as error:
            raise no_memory("weights and cache", max(capacity_bytes - free_bytes, 0)) from error
        return DeviceTier(self.name, memory)

    def pin(self, memory: Tensor) -> bool:
        """See `Device.pin`."""
        runtime = torch.cuda.cudart()  # type: ignore[no-untyped-call]
        error = int(runtime.cudaHostRegister(memory.data_ptr(), memory.nbytes, 0))
        if error == 0:
            self._pinned.append(memory)
            return True
        with contextlib.suppress(RuntimeError):  # the error would be raised by the next kernel
            torch.zeros(1, device=self.torch_device)
        return error == PINNED_BEFORE

    def kernels(self, cpu: Kernels) -> Kernels:
        """See `Device.kernels`."""
        return gpu_kernels(self.torch_device, DeviceKernels())

    def close(self) -> None:
        """See `Device.close`."""
        runtime = torch.cuda.cudart()  # type: ignore[no-untyped-call]
        for memory in self._pinned:
            runtime.cudaHostUnregister(memory.data_ptr())
        self._pinned.clear()
        torch.cuda.empty_cache()  # once, at the end: what no tensor holds goes back

    def _limit(self, limit_bytes: int) -> None:
        """Torch's allocator refuses more, rather than exceed the budget."""
        left_bytes = max(limit_bytes - self.fixed_bytes, 0)
        fraction = min(left_bytes / self.memory().total_bytes, 1.0)
        torch.cuda.set_per_process_memory_fraction(fraction, self.torch_device)


@contextlib.contextmanager
def _errors_named(doing: str) -> Iterator[None]:
    """Errors of CUDA as one sentence; all others pass."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise no_memory(doing, _asked_bytes(str(error))) from error
    except torch.AcceleratorError as error:
        if "out of memory" in str(error):
            raise no_memory(doing, 0) from error
        raise DeviceError(
            f"The GPU failed while {doing} ({str(error).splitlines()[0]}); outputs that were "
            "returned are good, start again for the others."
        ) from error


def _asked_bytes(message: str) -> int:
    """What torch's allocator tried to get, by its own words."""
    found = re.search(r"Tried to allocate ([\d.]+ \w+)", message)
    return parse_size(found[1]) if found else 0
