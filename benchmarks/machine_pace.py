"""How fast the machine is just now against the profile that predictions are made from.

A virtual machine shares memory and clock with neighbours that no process list shows. A product of
one row tells the memory's pace, one of many rows the cores'.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from lm_offload.hardware.memory_probe import probe_memory
from lm_offload.hardware.product_probe import MEMORY_SIZE, PLAIN, matrices, product_work
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.hardware.timing import typical_s
from lm_offload.kernels.base import Kernels
from lm_offload.kernels.resolve import resolve_kernels
from lm_offload.storage.arena import Arena
from lm_offload.units import GIB

ROWS = (1, 64)
BUDGET_S = 0.25
STEADY_FRAC = (
    0.07  # by which the pace may be off where a point counts as measured on a steady machine
)


@dataclass(frozen=True)
class PaceMeter:
    """Holds the matrices, so that each reading takes a quarter of a second."""

    threads: int
    _arena: Arena = field(default_factory=lambda: probe_memory(GIB))

    def read(self, profile: HardwareProfile) -> dict[str, float]:
        """Measured over profiled rate, by rows; 1.0 is as profiled."""
        kernels: Kernels = resolve_kernels(self.threads)
        weights = matrices(self._arena, PLAIN, MEMORY_SIZE)
        works = {rows: product_work(kernels, weights, rows) for rows in ROWS}
        seconds = typical_s(works, BUDGET_S)
        rows_wide, columns = weights[0].shape
        return {
            str(rows): self._predicted_s(profile, rows, rows_wide * columns) / seconds[rows]
            for rows in ROWS
        }

    def _predicted_s(self, profile: HardwareProfile, rows: int, elements: int) -> float:
        return profile.cpu.kernel_s + profile.cpu.product_s(PLAIN, rows, elements)


def is_steady(*readings: dict[str, float]) -> bool:
    """Whether no reading is off by more than STEADY_FRAC."""
    paces = [pace for reading in readings for pace in reading.values()]
    return max(abs(pace - 1) for pace in paces) <= STEADY_FRAC
