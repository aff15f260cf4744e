"""Seconds of a sweep by resource: the record of what was predicted and of what was measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple


class DeviceTime(NamedTuple):
    """Seconds of one device in a sweep, and what its link brought."""

    gpu_s: float
    h2d_s: float
    h2d_bytes: float


@dataclass(frozen=True)
class StepTime:
    """Seconds of one sweep by resource; the same record whether predicted or measured."""

    total_s: float
    cpu_s: float  # computing
    wait_s: float  # the CPU idle because weights were not there yet
    disk_read_s: float  # the disk busy
    read_bytes: float  # weights and KV cache
    kv_read_bytes: float = 0.0
    gpu_s: float = 0.0  # the device computing, by its events; cpu_s is then what launching took
    h2d_s: float = 0.0  # the link to the device busy
    h2d_bytes: float = 0.0
    attend_s: float = 0.0  # the CPU attending, or computing units, beside the device
    devices: tuple[DeviceTime, ...] = ()  # of several; seconds above are then their means

    @property
    def overhead_s(self) -> float:
        """Neither computing nor waiting: what the engine itself costs."""
        return self.total_s - self.cpu_s - self.wait_s


def mean_step(steps: Iterable[tuple[StepTime, float]]) -> StepTime:
    """The mean of times with weights; all zero if there are none."""
    names = [field.name for field in dataclasses.fields(StepTime) if field.name != "devices"]
    values_of = attrgetter(*names)
    taken = [(step, weight) for step, weight in steps]
    weighted = [(values_of(step), weight) for step, weight in taken]
    total_weight = sum(weight for _, weight in weighted) or 1.0
    means = {
        name: sum(values[index] * weight for values, weight in weighted) / total_weight
        for index, name in enumerate(names)
    }
    of_devices = zip(*(step.devices for step, _ in taken), strict=True)
    weights = [weight / total_weight for _, weight in taken]
    return StepTime(**means, devices=tuple(_mean_device(times, weights) for times in of_devices))


def _mean_device(times: Iterable[DeviceTime], weights: Iterable[float]) -> DeviceTime:
    """Of one device in several sweeps; the weights sum to one."""
    weighted = [
        [value * weight for value in time] for time, weight in zip(times, weights, strict=True)
    ]
    return DeviceTime(*map(sum, zip(*weighted, strict=True)))


def of_devices(times: Sequence[DeviceTime]) -> dict[str, Any]:
    """The fields of a `StepTime` that several devices share."""
    gpu_s, h2d_s, h2d_bytes = map(sum, zip(*times, strict=True))
    count = len(times)
    return {
        "gpu_s": gpu_s / count,
        "h2d_s": h2d_s / count,
        "h2d_bytes": h2d_bytes,
        "devices": tuple(times),
    }
