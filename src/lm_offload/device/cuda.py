"""A CUDA device through torch: its streams and events, one tensor of memory, registered host pages.

Nothing here waits for the whole device before it is closed. Host arenas are registered as they are,
page-aligned and of exact size; torch's own allocator of pinned memory would round them up to powers
of two. Every call makes the device the current one of its thread and gives that back: CUDA would
make a context on the first GPU for a thread that has chosen none.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from lm_offload.device.base import (
    ALLOCATOR_BYTES,
    CONTEXT_BYTES,
    DeviceMemory,
    Event,
    Graph,
    Work,
)
from lm_offload.device.cuda_errors import errors_named
from lm_offload.device.no_memory import no_memory
from lm_offload.device.tier import DeviceTier
from lm_offload.kernels.device_kernels import DeviceKernels
from lm_offload.kernels.triton_resolve import gpu_kernels

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.kernels.base import Kernels

PINNED_BEFORE = 712  # cudaErrorHostMemoryAlreadyRegistered: by another device, but for all of them


class CudaEvent:
    """See `Event`."""

    def __init__(self, event: torch.cuda.Event, device: torch.device) -> None:
        self.event = event
        self._device = device

    def synchronize(self) -> None:
        """See `Event.synchronize`."""
        with errors_named("waiting for the GPU"), torch.cuda.device(self._device):
            self.event.synchronize()

    def elapsed_s(self, since: Event) -> float:
        """See `Event.elapsed_s`."""
        assert isinstance(since, CudaEvent)
        with errors_named("computing on the GPU"), torch.cuda.device(self._device):
            return float(since.event.elapsed_time(self.event)) / 1e3


class CudaStream:
    """See `Stream`; kernels are launched by the caller and run beside it."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def launch(self, work: Work) -> None:
        """See `Stream.launch`."""
        with errors_named("computing on the GPU"), self._current():
            work()

    def copy_async(self, source: Tensor, target: Tensor) -> None:
        """See `Stream.copy_async`."""
        with errors_named("copying to or from the GPU"), self._current():
            target.copy_(source, non_blocking=True)

    def record(self) -> CudaEvent:
        """See `Stream.record`; who waits sleeps, for the CPU may compute beside."""
        event = torch.cuda.Event(enable_timing=True, blocking=True)  # type: ignore[no-untyped-call]
        with errors_named("computing on the GPU"), torch.cuda.device(self._device):
            event.record(self._stream)
        return CudaEvent(event, self._device)

    def wait(self, event: Event) -> None:
        """See `Stream.wait`."""
        assert isinstance(event, CudaEvent)
        with errors_named("computing on the GPU"), torch.cuda.device(self._device):
            self._stream.wait_event(event.event)

    @contextlib.contextmanager
    def _current(self) -> Iterator[None]:
        """The device first: a stream alone would choose the device before as it ends."""
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            yield


class CudaDevice:
    """See `Device`. `limit_bytes`: the most that the process takes of it, context included."""

    fixed_bytes = CONTEXT_BYTES

    def __init__(self, name: str, limit_bytes: int | None = None) -> None:
        self.name = name
        self.torch_device = torch.device(name)
        self._pinned: list[Tensor] = []
        self._arenas: list[Tensor] = []
        self._undo = contextlib.ExitStack()
        self._captures = False  # whether kernels can be taken down
        self._graphs: weakref.WeakSet[torch.cuda.CUDAGraph] = weakref.WeakSet()
        with errors_named("making a context"):
            self.model = torch.cuda.get_device_name(name)
            self.compute, self.h2d, self.d2h = (CudaStream(self.torch_device) for _ in range(3))
        if limit_bytes is not None:
            self._limit(limit_bytes)

    def memory(self) -> DeviceMemory:
        """See `Device.memory`; what torch keeps of tensors that are gone is given back first."""
        with errors_named("asked for its memory"), torch.cuda.device(self.torch_device):
            torch.cuda.empty_cache()
            return DeviceMemory(*torch.cuda.mem_get_info(self.torch_device))

    def tier(self, capacity_bytes: int) -> DeviceTier:
        """See `Device.tier`."""
        free_bytes = self.memory().free_bytes
        try:
            memory = torch.empty(capacity_bytes, dtype=torch.uint8, device=self.torch_device)
        except torch.OutOfMemoryError as error:
            raise no_memory("weights and cache", max(capacity_bytes - free_bytes, 0)) from error
        self._arenas.append(memory)
        return DeviceTier(self.name, memory)

    def pin(self, memory: Tensor) -> bool:
        """See `Device.pin`."""
        with torch.cuda.device(self.torch_device):
            runtime = torch.cuda.cudart()  # type: ignore[no-untyped-call]
            error = int(runtime.cudaHostRegister(memory.data_ptr(), memory.nbytes, 0))
            if error == 0:
                self._pinned.append(memory)
                return True
            with contextlib.suppress(RuntimeError):  # or the next kernel would raise the error
                torch.zeros(1, device=self.torch_device)
        return error == PINNED_BEFORE

    def kernels(self, cpu: Kernels) -> Kernels:
        """See `Device.kernels`."""
        found = gpu_kernels(self.torch_device, DeviceKernels())
        self._captures = not isinstance(found, DeviceKernels)  # those of torch ask the device
        return found

    def capture(self, work: Work) -> Graph | None:
        """See `Device.capture`.

        Copies go on beside it in threads of their own, so only this thread is watched. Graphs share
        the memory of their temporaries: they run one after the other, and leave nothing there.
        """
        if not self._captures:
            return None
        if not self._graphs:  # a pool that all have left is gone
            self._pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        with errors_named("recording what it computes"):
            graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
            try:
                work()
            finally:
                graph.capture_end()
        self._graphs.add(graph)
        return graph

    def close(self) -> None:
        """See `Device.close`; of a GPU that is lost as much as can be given back."""
        # Copies may be under way from what is unpinned.
        for step in (torch.cuda.synchronize, self._unpin, self._give_back):
            with contextlib.suppress(RuntimeError), torch.cuda.device(self.torch_device):
                step()
        self._pinned.clear()

    def _unpin(self) -> None:
        runtime = torch.cuda.cudart()  # type: ignore[no-untyped-call]
        for memory in self._pinned:
            runtime.cudaHostUnregister(memory.data_ptr())

    def _give_back(self) -> None:
        """Device memory, whoever still holds a view of it: the next budget counts on it."""
        for graph in [*self._graphs]:
            graph.reset()
        for memory in self._arenas:
            memory.untyped_storage().resize_(0)
        self._arenas.clear()
        torch.cuda.empty_cache()
        self._undo.close()

    def _limit(self, limit_bytes: int) -> None:
        """Torch's allocator refuses more, rather than exceed the budget, until this is closed."""
        left_bytes = max(limit_bytes - self.fixed_bytes + ALLOCATOR_BYTES, 0)
        fraction = min(left_bytes / self.memory().total_bytes, 1.0)
        before = torch.cuda.get_per_process_memory_fraction(self.torch_device)
        self._undo.callback(torch.cuda.set_per_process_memory_fraction, before, self.torch_device)
        torch.cuda.set_per_process_memory_fraction(fraction, self.torch_device)
