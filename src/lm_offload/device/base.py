"""What a device offers: memory, three streams, events; nothing that waits for everything.

A stream does its work in order, beside the caller and beside other streams. An event marks a place
in a stream: another stream waits for it without the caller, or the caller waits for it alone::

    h2d      | copy u3 |e|  copy u4  |e|          the caller waits for a copy by its event
    compute        |  u2  |    wait e, u3  |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from lm_offload.units import MIB

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from lm_offload.kernels.base import Kernels
    from lm_offload.storage.arena import Tier

Work = Callable[[], None]
CONTEXT_BYTES = 768 * MIB  # CUDA's context, modules and workspaces; an assumption, not measured
# Of these: cuBLAS's workspaces (32 MiB twice on capability 9), and what torch's allocator loses in
# segments of 2 and 20 MiB that it fills in part.
ALLOCATOR_BYTES = 160 * MIB


@dataclass(frozen=True)
class DeviceMemory:
    """Of the whole device: what nobody uses, and what it has."""

    free_bytes: int
    total_bytes: int


class Event(Protocol):
    """A place in a stream that is reached once."""

    def synchronize(self) -> None:
        """Block the caller until it is reached; raises DeviceError if the stream failed."""

    def elapsed_s(self, since: Event) -> float:
        """Seconds between an earlier event and this one; both are reached."""


class Stream(Protocol):
    """Work in the order of its submission; every call returns at once."""

    def launch(self, work: Work) -> None:
        """Call `work`, whose torch operations run in this stream; soon, or at once."""

    def copy_async(self, source: Tensor, target: Tensor) -> None:
        """Copy between host and device; both stay as they are until it is done."""

    def record(self) -> Event:
        """The event that is reached when everything submitted so far is done."""

    def wait(self, event: Event) -> None:
        """Later work of this stream starts when `event` is reached."""


class Graph(Protocol):
    """Launches that were taken down; what they read and write stays where it is."""

    def replay(self) -> None:
        """Launch all of them at once; called by what a stream launches."""


class Device(Protocol):
    """One device; open from its construction until `close`."""

    name: str
    model: str  # what rates that were measured on it belong to
    fixed_bytes: int  # of its memory that context and libraries take, beside every arena
    torch_device: torch.device

    @property
    def compute(self) -> Stream:
        """Where kernels run."""

    @property
    def h2d(self) -> Stream:
        """Copies from the host."""

    @property
    def d2h(self) -> Stream:
        """Copies to the host."""

    def memory(self) -> DeviceMemory:
        """What is free at this moment."""

    def tier(self, capacity_bytes: int) -> Tier:
        """Memory of exact size; raises DeviceError if the device refuses it."""

    def pin(self, memory: Tensor) -> bool:
        """Make host memory one that `copy_async` reads and writes at full speed.

        False where the system refuses: the caller stages copies through memory that is pinned.
        """

    def kernels(self, cpu: Kernels) -> Kernels:
        """The operations that run here; `cpu` are those of the host."""

    def capture(self, work: Work) -> Graph | None:
        """What `work` launches, taken down without being done; called within `compute.launch`.

        `work` was done before, does not wait for the device, and changes nothing on the host. None
        where a device takes nothing down; raises DeviceError where it fails to.
        """

    def close(self) -> None:
        """Stop the streams, unpin and give the memory back."""
