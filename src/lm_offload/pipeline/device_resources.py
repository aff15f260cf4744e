"""What works side by side in a sweep on a device: disk, link, device, its way back, the CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lm_offload.device.base import Stream
from lm_offload.pipeline.device_queue import DeviceQueue
from lm_offload.pipeline.disk_queue import DiskQueue
from lm_offload.pipeline.host_processor import HostProcessor
from lm_offload.schedule.task import Resource, Task


@dataclass(frozen=True)
class DeviceResources:
    """What works side by side: a queue for each link that brings weights, the device, its way back.

    `links` has `disk_read` and `h2d`.
    """

    links: Mapping[Resource, DiskQueue]
    processor: DeviceQueue
    d2h: Stream
    host: HostProcessor | None = None  # where the CPU attends or computes units

    def submit(self, tasks: Sequence[Task]) -> None:
        """Queue transfers, each at its link."""
        for resource, link in self.links.items():
            link.submit(task for task in tasks if task.resource == resource)

    def withdraw(self) -> None:
        """Drop the transfers that have not been started and wait for those that have."""
        for link in self.links.values():
            link.withdraw()

    def close(self) -> None:
        """Stop the threads of all of them."""
        for link in self.links.values():
            link.close()
        self.processor.close()
        if self.host is not None:
            self.host.close()
