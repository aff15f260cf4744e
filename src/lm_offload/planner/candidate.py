"""One choice of format and sizes, placed in the budget."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from lm_offload.device_plan import DevicePlan
from lm_offload.hardware.profile import Link
from lm_offload.plan import Figures, Plan, Retention, ThreadPlan
from lm_offload.planner.lazy import lazy
from lm_offload.planner.memory import Sizes, memory_table
from lm_offload.planner.model_sizes import ModelSizes
from lm_offload.planner.request import DeviceBudget, Request
from lm_offload.planner.residency import Residency, residencies
from lm_offload.units import MIB, align_up

READ_BLOCK_BYTES = 8 * MIB  # where a described machine does not say
RING_DEPTHS = (3, 2, 1)  # units of the size of the largest

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
    ring_depth: int
    residency: Residency
    table_resident: bool
    other_memory: Sequence[tuple[str, int]]
    read_block_bytes: int
    read_concurrency: int
    threads: ThreadPlan
    device: DevicePlacement | None = None
    lends: bool = False  # unused KV memory to streamed units

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
        if self.device or self.sizes.spill.layers or "KV swap" in memory:
            return False
        sizes_bytes = [self.model.units[unit].size_bytes for unit in self.streamed]
        return 0 < max(sizes_bytes, default=0) <= memory["KV cache"]

    @property
    def memory(self) -> tuple[tuple[str, int], ...]:
        """Every byte of the budget by purpose."""
        resident = self._bytes_of(self.residency.resident)
        table_bytes = self.model.table_bytes if self.table_resident else 0
        return (
            ("resident weights", resident + table_bytes),
            ("staging ring", self.residency.ring_bytes),
            *self.other_memory,
        )

    @property
    def device_memory(self) -> tuple[tuple[str, int], ...]:
        """Every byte of the device's budget by purpose; empty without a device."""
        return self.memory_on(self.device) if self.device else ()

    def memory_on(self, placed: DevicePlacement) -> Memory:
        """Every byte of a device, or of several, by purpose."""
        return (
            ("resident weights", self._bytes_of(placed.resident)),
            ("upload ring", placed.ring_bytes),
            *placed.other_memory,
        )

    @property
    def streamed_bytes(self) -> int:
        """What is read in each sweep."""
        return self._bytes_of(self.streamed)

    @property
    def peak_bytes(self) -> dict[str, int]:
        """By tier: the part of the budget that is used, and what lies on disk alone."""
        used_bytes = sum(size_bytes for _, size_bytes in self.memory)
        tiers = {"cpu": used_bytes, "disk": self.streamed_bytes}
        if self.device is not None:
            tiers["gpu"] = sum(size_bytes for _, size_bytes in self.device_memory)
        return tiers

    def device_plan(self, budget: DeviceBudget) -> DevicePlan:
        """The device's part as a decision; of a candidate that has one."""
        assert self.device is not None
        plan = self._part_plan(budget, self.device)
        parts = zip(budget.stages, self.device.stages, strict=True)
        return replace(plan, stages=tuple(self._part_plan(*part) for part in parts))

    def _part_plan(self, budget: DeviceBudget, placed: DevicePlacement) -> DevicePlan:
        return DevicePlan(
            name=budget.name,
            budget_bytes=budget.budget_bytes,
            resident=self._names(sorted(placed.resident)),
            ring_bytes=placed.ring_bytes,
            memory=self.memory_on(placed),
            uploaded_bytes=self._bytes_of(self.uploaded_to(placed)),
            attention=self.sizes.attention,
            kv_blocks=self.sizes.device_blocks,
            in_place=self._names(sorted(placed.in_place)),
            in_place_rows=self.sizes.in_place_rows,
            units=self._names(placed.units),
            begins=self._names(unit for unit in placed.units if unit - 1 not in placed.units),
            replays=placed.replays,
            prompt_blocks=placed.prompt_blocks,
        )

    def _names(self, units: Iterable[int]) -> tuple[str, ...]:
        return tuple(self.model.units[unit].unit.name for unit in units)

    def _bytes_of(self, units: frozenset[int]) -> int:
        return sum(map(self.model.unit_bytes.__getitem__, units))


def place(request: Request, model: ModelSizes, sizes: Sizes, depth: int) -> list[Candidate]:
    """These sizes with a ring of `depth` units in every way that fits; the even spread first.

    The embedding table is kept in memory only where everything else is too.
    """
    left_bytes, table = _left(request, model, sizes, table_resident=True)
    if left_bytes > 0 and model.units_bytes <= left_bytes:
        everything = Residency(frozenset(range(len(model.units))), 0)
        return [_candidate(request, model, sizes, depth, everything, table, table_resident=True)]
    left_bytes, table = _left(request, model, sizes, table_resident=False)
    if left_bytes <= 0:
        return []
    unit_bytes = model.unit_bytes
    most = 1 if sizes.spill.layers else None  # reads of a cache leave little to an order
    found = islice(residencies(unit_bytes, left_bytes, depth), most)
    return [_candidate(request, model, sizes, depth, chosen, table) for chosen in found]


def _left(
    request: Request, model: ModelSizes, sizes: Sizes, table_resident: bool
) -> tuple[int, Memory]:
    """Bytes for units and their ring, and what takes the others."""
    table = memory_table(model, sizes, table_resident)
    table_bytes = model.table_bytes if table_resident else 0
    return request.budget_bytes - sum(row[1] for row in table) - table_bytes, table


def _candidate(
    request: Request,
    model: ModelSizes,
    sizes: Sizes,
    depth: int,
    residency: Residency,
    table: Memory,
    table_resident: bool = False,
) -> Candidate:
    disk = request.profile.disk_read
    return Candidate(
        model=model,
        sizes=sizes,
        ring_depth=depth,
        residency=residency,
        table_resident=table_resident,
        other_memory=table,
        read_block_bytes=read_block_bytes(disk),
        read_concurrency=disk.concurrency,
        threads=request.default_threads,
    )


def read_block_bytes(disk: Link) -> int:
    """The size of the blocks of reads, in whole pages."""
    return align_up(disk.block_bytes or READ_BLOCK_BYTES)


def plan_of(
    request: Request, candidate: Candidate, predicted: Figures, retention: Retention | None
) -> Plan:
    """The candidate as a decision, in the words of the engine."""
    names = [unit.unit.name for unit in candidate.model.units]
    streamed, sizes = candidate.streamed, candidate.sizes
    resident = candidate.residency.resident
    return Plan(
        budget_bytes=request.budget_bytes,
        weight_format=str(candidate.model.weight_format),
        kv_format=str(candidate.model.kv_format),
        resident=tuple(name for unit, name in enumerate(names) if unit in resident),
        streamed=tuple(name for unit, name in enumerate(names) if unit in streamed),
        table_resident=candidate.table_resident and candidate.model.table_bytes > 0,
        ring_bytes=candidate.residency.ring_bytes,
        kv_blocks=sizes.kv_blocks,
        max_sequences=sizes.max_sequences,
        sweep_tokens=sizes.sweep_tokens,
        micro_batch_tokens=sizes.micro_batch_tokens,
        scored_rows=sizes.scored_rows,
        read_block_bytes=candidate.read_block_bytes,
        read_concurrency=candidate.read_concurrency,
        threads=candidate.threads,
        memory=candidate.memory,
        streamed_bytes=candidate.streamed_bytes,
        predicted=predicted,
        draft_rows=sizes.draft_rows,
        spare_sequences=sizes.spare_sequences,
        spill=sizes.spill,
        retention=retention,
        device=_with_switch(request, candidate.device_plan(request.device))
        if request.device
        else None,
    )


def _with_switch(request: Request, device: DevicePlan) -> DevicePlan:
    """With what the profile says of the device's kernels."""
    few_rows = request.profile.gpu.few_rows if request.profile.gpu else 0
    stages = tuple(replace(stage, few_rows=few_rows) for stage in device.stages)
    return replace(device, few_rows=few_rows, stages=stages)
