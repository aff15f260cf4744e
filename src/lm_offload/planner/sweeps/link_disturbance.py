"""How much transfers, reads and the CPU slow one another in a sweep of a device.

::

    disk, up, attend, compute   s' = s (1 + sum over the others of d (1 / f - 1))
    up, down                    the same with f of the other direction, by block
    d                           share of the sweep in which the other works: its s' over the longest
    uploads                     s' = s T / (T - r) beside r seconds of copies that come back in T

where f is what is left of a rate while the other works all the time. Where nobody measured how
products on the CPU bear uploads, 1 / f is 1 + link / memory, as both read memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lm_offload.hardware.link import Link
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.planner.sweeps.disturbance import ROUNDS

DISK, UP, DOWN, ATTEND, COMPUTE = range(5)  # the last two on the CPU
Losses = Mapping[tuple[int, int], float]  # of the first beside the second, of its seconds


@dataclass(frozen=True)
class Slower:
    """Factors on the seconds of each resource, from 1."""

    factors: Sequence[float] = (1.0,) * 5

    def __getitem__(self, resource: int) -> float:
        return self.factors[resource]


def slower(alone_s: Sequence[float], least_s: float, losses: Losses) -> Slower:
    """Of resources that take `alone_s` undisturbed, in a sweep of at least `least_s`."""
    busy = [float(seconds > 0) for seconds in alone_s]
    if not losses or sum(busy) < 2:
        return Slower()
    for _ in range(ROUNDS):
        factors = [
            1 + sum(share * losses.get((own, other), 0.0) for other, share in enumerate(busy))
            for own in range(len(busy))
        ]
        taken_s = [factor * seconds for factor, seconds in zip(factors, alone_s, strict=True)]
        busy = [seconds / max(*taken_s, least_s) for seconds in taken_s]
    return Slower(factors)


def shared(uploads_s: float, back_s: float, least_s: float) -> float:
    """The factor on uploads that leave the link to `back_s` of copies from the CPU.

    The sweep takes `least_s`, or as long as the link has work.
    """
    if not uploads_s or not back_s:
        return 1.0
    sweep_s = max(least_s, uploads_s + back_s)
    return sweep_s / (sweep_s - back_s)


def losses_of(
    profile: HardwareProfile, up_bytes: float, down_bytes: float
) -> dict[tuple[int, int], float]:
    """What is lost on a machine with a device, by blocks of that size up and down; none is 0."""
    left, disk = profile.link_interference, profile.interference
    kept = {
        (UP, DISK): left.upload_while_reading_frac,
        (DISK, UP): left.disk_read_while_uploading_frac,
        (UP, ATTEND): left.upload_while_attending_frac,
        (ATTEND, UP): left.attend_while_uploading_frac,
        (UP, COMPUTE): left.upload_while_computing_frac,
        (UP, DOWN): _opposed_frac(profile.h2d, up_bytes),
        (DOWN, UP): _opposed_frac(profile.d2h, down_bytes),
        **{(DISK, cpu): disk.disk_read_while_computing_frac for cpu in (ATTEND, COMPUTE)},
        **{(cpu, DISK): disk.compute_while_reading_frac for cpu in (ATTEND, COMPUTE)},
    }
    return {pair: 1 / frac - 1 for pair, frac in kept.items() if frac < 1}


def compute_loss(profile: HardwareProfile, link_bytes_per_s: float) -> float:
    """Of products on the CPU while uploads go on at that rate."""
    frac = profile.link_interference.compute_while_uploading_frac
    if frac is None:
        return link_bytes_per_s / profile.cpu.memory_bytes_per_s
    return 1 / frac - 1


def _opposed_frac(link: Link | None, size_bytes: float) -> float:
    return link.opposed_frac.at(size_bytes) if link and link.opposed_frac else 1.0
