"""Places one choice of format and sizes in the budget of a machine without a device."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import islice

from lm_offload.hardware.link import Link
from lm_offload.planner.costs.expert_sizes import ExpertPlacement, most_experts
from lm_offload.planner.costs.memory import Sizes, memory_table
from lm_offload.planner.costs.model_sizes import ModelSizes
from lm_offload.planner.costs.ring_depth import RingDepth
from lm_offload.planner.places.candidate import Candidate, Memory
from lm_offload.planner.places.residency import Residency, residencies
from lm_offload.planner.request import Request
from lm_offload.units import MIB, align_up

READ_BLOCK_BYTES = 8 * MIB  # where a described machine does not say
RING_DEPTHS = RingDepth(3), RingDepth(2), RingDepth(1)


def place(request: Request, model: ModelSizes, sizes: Sizes, depth: RingDepth) -> list[Candidate]:
    """These sizes with a ring of this depth in every way that fits; the even spread first.

    The embedding table is kept in memory only where everything else is too.
    """
    left_bytes, table = _left(request, model, sizes, table_resident=True)
    if left_bytes > 0 and model.units_bytes <= left_bytes:
        everything = Residency(frozenset(range(len(model.units))), 0)
        return [
            candidate_with(request, model, sizes, depth, everything, table, table_resident=True)
        ]
    left_bytes, table = _left(request, model, sizes, table_resident=False)
    if left_bytes <= 0:
        return []
    if model.experts is not None:
        return _with_experts(request, model, sizes, depth, left_bytes, table)
    unit_bytes = model.unit_bytes
    most = 1 if sizes.spill.layers else None  # reads of a cache leave little to an order
    found = islice(residencies(unit_bytes, left_bytes, depth), most)
    return [candidate_with(request, model, sizes, depth, chosen, table) for chosen in found]


def _with_experts(
    request: Request,
    model: ModelSizes,
    sizes: Sizes,
    depth: RingDepth,
    left_bytes: int,
    table: Memory,
) -> list[Candidate]:
    """Units that every token uses stay first, then as many experts as fit; at least their ring."""
    assert model.experts is not None
    experts = most_experts(model.experts, left_bytes - sum(model.unit_bytes), depth.units)
    if experts is not None:
        found: Iterable[Residency] = [Residency(frozenset(range(len(model.units))), 0)]
    else:
        experts = ExpertPlacement(frozenset(), depth.units * model.experts.largest_bytes)
        found = residencies(model.unit_bytes, left_bytes - experts.ring_bytes, depth)
    return [
        replace(candidate_with(request, model, sizes, depth, it, table), experts=experts)
        for it in found
    ]


def _left(
    request: Request, model: ModelSizes, sizes: Sizes, table_resident: bool
) -> tuple[int, Memory]:
    """Bytes for units and their ring, and what takes the others."""
    table = memory_table(model, sizes, table_resident)
    table_bytes = model.table_bytes if table_resident else 0
    return request.budget_bytes - sum(row[1] for row in table) - table_bytes, table


def candidate_with(
    request: Request,
    model: ModelSizes,
    sizes: Sizes,
    depth: RingDepth,
    residency: Residency,
    other_memory: Memory,
    table_resident: bool = False,
) -> Candidate:
    """These units resident, read as the disk likes it and computed on the default threads."""
    disk = request.profile.disk_read
    return Candidate(
        model=model,
        sizes=sizes,
        ring_depth=depth,
        residency=residency,
        table_resident=table_resident,
        other_memory=other_memory,
        read_block_bytes=read_block_bytes(disk),
        read_concurrency=_readers(disk, model, sizes, residency),
        threads=request.default_threads,
    )


def host_ring_depths(disk: Link) -> tuple[RingDepth, ...]:
    """Rings from which the CPU computes, whose units are read in parts."""
    most, two, one = RING_DEPTHS
    return most, two, RingDepth(1, read_block_bytes(disk) * disk.concurrency), one


def read_block_bytes(disk: Link) -> int:
    """The size of the blocks of reads, in whole pages."""
    return align_up(disk.block_bytes or READ_BLOCK_BYTES)


def readers_of(disk: Link, largest_bytes: int) -> int:
    """Threads that read units of at most so many bytes, each its block."""
    few = disk.few_readers if largest_bytes <= read_block_bytes(disk) else 0
    return few or disk.concurrency


def _readers(disk: Link, model: ModelSizes, sizes: Sizes, residency: Residency) -> int:
    """As many as the largest unit that moves needs, or as a cache on disk does."""
    if sizes.spill.layers:
        return disk.concurrency
    moved = (size for at, size in enumerate(model.unit_bytes) if at not in residency.resident)
    expert_bytes = model.experts.largest_bytes if model.experts else 0
    return readers_of(disk, max((expert_bytes, *moved)))
