"""One choice of format and sizes with its place in the budget."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lm_offload.plan import ThreadPlan
from lm_offload.planner.costs.expert_sizes import ExpertPlacement
from lm_offload.planner.costs.memory import APART, Sizes
from lm_offload.planner.costs.model_sizes import ModelSizes
from lm_offload.planner.costs.ring_depth import RingDepth
from lm_offload.planner.lazy import lazy
from lm_offload.planner.places.residency import Residency
from lm_offload.units import HUGE_PAGE_BYTES, align_down

Memory = tuple[tuple[str, int], ...]  # purpose, bytes


@dataclass(frozen=True)
class DevicePlacement:
    """What would be on the device, with all other memory of it by purpose.

    Of several devices it is the sum, and each of the `stages` is on one of them.
    """

    resident: frozenset[int]
    ring_bytes: int
    other_memory: Sequence[tuple[str, int]]
    in_place: frozenset[int] = frozenset()  # units in host memory that the CPU computes there
    units: Sequence[int] = ()  # of a stage, what it computes
    stages: tuple[DevicePlacement, ...] = ()
    replays: bool = False  # what decode launches, for which there is memory
    prompt_blocks: int = 0  # of one layer, for prompts with KV in host memory


@dataclass(frozen=True)
class Candidate:
    """What would be resident and what would be streamed, with all other memory by purpose."""

    model: ModelSizes
    sizes: Sizes
    ring_depth: RingDepth
    residency: Residency
    table_resident: bool
    other_memory: Sequence[tuple[str, int]]
    read_block_bytes: int
    read_concurrency: int
    threads: ThreadPlan
    device: DevicePlacement | None = None
    lends: bool = False  # unused KV memory to streamed units
    experts: ExpertPlacement | None = None  # where any are on disk

    @lazy
    def streamed(self) -> frozenset[int]:
        """Indices of the units that are read in each sweep."""
        kept = self.residency.resident | (self.device.resident if self.device else frozenset())
        return frozenset(range(len(self.model.units))) - kept

    @lazy
    def uploaded(self) -> frozenset[int]:
        """Indices of the units that are copied to the device in each sweep."""
        return self.residency.resident | self.streamed if self.device else frozenset()

    def uploaded_to(self, placed: DevicePlacement) -> frozenset[int]:
        """Of these, those that a device computes."""
        return self.uploaded & {*placed.units} if placed.units else self.uploaded

    @property
    def on_host(self) -> frozenset[int]:
        """Units with attention over keys and values in host memory, beside a device."""
        every = self.model.attention_units
        if self.device is None or self.sizes.attention != "device":
            return every
        return every & self.device.in_place

    @property
    def rows_in_memory(self) -> bool:
        """Whether embedding rows are copied from memory: from the table, or a head tied to it."""
        if self.table_resident or self.model.table_bytes:
            return self.table_resident
        units, kept = self.model.units, self.residency.resident
        return all(index in kept for index, sized in enumerate(units) if sized.unit.kind == "head")

    @property
    def can_lend(self) -> bool:
        """Whether a streamed unit fits the KV cache, which lies in memory and is not swapped."""
        memory = dict(self.other_memory)
        if self.device or self.experts or self.sizes.spill.layers or "KV swap" in memory:
            return False
        sizes_bytes = [self.model.units[unit].size_bytes for unit in self.streamed]
        return 0 < max(sizes_bytes, default=0) <= memory["KV cache"]

    @property
    def memory(self) -> tuple[tuple[str, int], ...]:
        """Every byte of the budget by purpose."""
        resident = self.bytes_of(self.residency.resident)
        table_bytes = self.model.table_bytes if self.table_resident else 0
        return (
            ("resident weights", resident + self._resident_experts_bytes + table_bytes),
            ("staging ring", self.residency.ring_bytes + self.expert_ring_bytes),
            *self.other_memory,
        )

    @property
    def in_small_pages(self) -> float:
        """The share of the staging ring that lies behind the last huge page of host memory."""
        ring_bytes = self.residency.ring_bytes
        behind_bytes = sum(size for purpose, size in self.other_memory if purpose not in APART)
        if self.device is not None or not ring_bytes or behind_bytes >= HUGE_PAGE_BYTES:
            return 0.0  # it comes first, so no more than what is behind it is in small pages
        mapped_bytes = sum(size for purpose, size in self.memory if purpose not in APART)
        return max(1.0 - align_down(mapped_bytes, HUGE_PAGE_BYTES) / ring_bytes, 0.0)

    @property
    def device_memory(self) -> tuple[tuple[str, int], ...]:
        """Every byte of the device's budget by purpose; empty without a device."""
        return self.memory_on(self.device) if self.device else ()

    def memory_on(self, placed: DevicePlacement) -> Memory:
        """Every byte of a device, or of several, by purpose."""
        return (
            ("resident weights", self.bytes_of(placed.resident)),
            ("upload ring", placed.ring_bytes),
            *placed.other_memory,
        )

    @property
    def streamed_bytes(self) -> int:
        """What is read in each sweep, with all experts on disk."""
        experts = self.model.experts.total_bytes if self.model.experts else 0
        return self.bytes_of(self.streamed) + experts - self._resident_experts_bytes

    @property
    def expert_ring_bytes(self) -> int:
        """For experts on disk."""
        return self.experts.ring_bytes if self.experts else 0

    @lazy
    def resident_experts(self) -> frozenset[int]:
        """Numbers of those in memory."""
        if self.experts is not None:
            return self.experts.resident
        return frozenset(range(len(self.model.experts.units) if self.model.experts else 0))

    @lazy
    def _resident_experts_bytes(self) -> int:
        experts = self.model.experts
        return experts.bytes_of(self.resident_experts) if experts else 0

    @property
    def expert_names(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Of the experts in memory, and of those on disk."""
        sides: tuple[list[str], list[str]] = ([], [])
        for number, name in enumerate(self.model.experts.names if self.model.experts else ()):
            sides[number not in self.resident_experts].append(name)
        return tuple(sides[0]), tuple(sides[1])

    @property
    def peak_bytes(self) -> dict[str, int]:
        """By tier: the part of the budget that is used, and what lies on disk alone."""
        used_bytes = sum(size_bytes for _, size_bytes in self.memory)
        tiers = {"cpu": used_bytes, "disk": self.streamed_bytes}
        if self.device is not None:
            tiers["gpu"] = sum(size_bytes for _, size_bytes in self.device_memory)
        return tiers

    def names_of(self, units: Iterable[int]) -> tuple[str, ...]:
        """Of some units, as plans name them."""
        return tuple(self.model.units[unit].unit.name for unit in units)

    def bytes_of(self, units: frozenset[int]) -> int:
        """Memory of some units together."""
        return sum(map(self.model.unit_bytes.__getitem__, units))
