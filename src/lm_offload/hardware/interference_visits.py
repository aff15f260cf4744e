"""Disk and CPU beside one another at several moments of a calibration."""

from __future__ import annotations

from lm_offload.hardware.clock import Clock
from lm_offload.hardware.disk_reader import DiskReader, Way
from lm_offload.hardware.effort import Effort
from lm_offload.hardware.interference_probe import Beside
from lm_offload.hardware.processor_probe import memory_bound_product
from lm_offload.hardware.product_work import empty_call
from lm_offload.hardware.profile import Interference
from lm_offload.hardware.timing import Deadline
from lm_offload.kernels.base import Kernels
from lm_offload.storage.arena import Arena
from lm_offload.units import KIB, align_down, align_up

SMALL_BLOCK_BYTES = 256 * KIB  # so many of them a second that they show
CALLS_FRAC = 0.3  # of the time, for such blocks with calls that have nothing to do
ARENA_FRAC = 0.5  # for the weights of products, which are written at every visit


class InterferenceVisits:
    """Reads in the chosen `way` beside products, and small blocks beside Python, in visits.

    They come before the stages to come, the last one is to be made when all else is done. What
    `arena` holds is lost with every visit.
    """

    def __init__(
        self,
        reader: DiskReader,
        way: Way,
        kernels: Kernels,
        arena: Arena,
        effort: Effort,
        clock: Clock,
    ) -> None:
        small_bytes = align_up(min(SMALL_BLOCK_BYTES, reader.known_bytes))
        self._products = Beside(reader, way)
        self._calls = Beside(reader, Way(small_bytes, way.depth))
        self._small_bytes = small_bytes
        self._kernels = kernels
        self._arena = arena.slice(0, align_down(int(ARENA_FRAC * arena.size_bytes)))
        self._visit_s = clock.budget_s("interference") / effort.interference_visits
        clock.visit_between(self.visit, effort.interference_visits - 1)

    def visit(self) -> None:
        """See what they leave one another just now."""
        deadline = Deadline(self._visit_s * (1 - CALLS_FRAC))
        product = memory_bound_product(self._kernels, self._arena)
        self._products.visit(product, deadline.left_s)
        self._calls.visit(empty_call(self._kernels), self._visit_s * CALLS_FRAC)

    @property
    def interference(self) -> Interference:
        """What is typical of all visits."""
        return self._products.interference

    @property
    def block_s(self) -> float:
        """Seconds that a call with next to nothing to do loses by each block that is read.

        Threads of Python that hand blocks over hold what a call must have again when it returns.
        """
        return self._calls.lost_byte_s * self._small_bytes
