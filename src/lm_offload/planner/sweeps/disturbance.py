"""How much disk and CPU slow one another in a sweep in which each works for a part of the time.

::

    computes take  C (1 + d (1 / f_c - 1))    d: share of the sweep in which the disk works
    reads take     D (1 + c (1 / f_d - 1))    c: share in which the CPU works
    c, d           their own disturbed seconds over those of the longer

where f_c and f_d are what is left of each rate while the other works all the time.
"""

from __future__ import annotations

from dataclasses import dataclass

from lm_offload.hardware.profile import Interference

ROUNDS = 3  # of the fixed point; the next one changes less than a per cent


@dataclass(frozen=True)
class Disturbance:
    """Factors on the seconds of computes and reads, and the share in which the disk works."""

    slower_cpu: float
    slower_disk: float
    disk_busy_frac: float


def disturbance(cpu_s: float, disk_s: float, interference: Interference) -> Disturbance:
    """Of a steady sweep that takes `cpu_s` and `disk_s` where nothing disturbs."""
    if not disk_s or not cpu_s:
        return Disturbance(1.0, 1.0, float(disk_s > 0))
    cpu_loss = 1 / interference.compute_while_reading_frac - 1
    disk_loss = 1 / interference.disk_read_while_computing_frac - 1
    cpu_busy = disk_busy = 1.0
    for _ in range(ROUNDS):
        cpu_total_s = cpu_s * (1 + disk_busy * cpu_loss)
        disk_total_s = disk_s * (1 + cpu_busy * disk_loss)
        total_s = max(cpu_total_s, disk_total_s)
        cpu_busy, disk_busy = cpu_total_s / total_s, disk_total_s / total_s
    return Disturbance(1 + disk_busy * cpu_loss, 1 + cpu_busy * disk_loss, disk_busy)
