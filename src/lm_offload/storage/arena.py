"""The memory of a tier: one anonymous mapping of exact size, cut into arenas.

Mapped once, touched once and reused for the life of an engine: the first touch of fresh
anonymous memory costs more than the read that fills it, and what is never given back to the
allocator of the C library cannot fragment or exceed the plan.

It begins with a huge page, as a direct read of a megabyte into small pages takes more than twice as
long as into huge ones; what is left of it behind the last whole one lies in small pages::

    mapping  | never touched | huge page | huge page | ... | small pages | never touched |
    arenas                   | first     | next ...                      |
"""

from __future__ import annotations

import ctypes
import math
import mmap
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from lm_offload.errors import BudgetError
from lm_offload.storage.interleave import interleave
from lm_offload.units import HUGE_PAGE_BYTES, PAGE_BYTES, align_down, align_up, format_bytes


class Memory(Protocol):
    """A piece of any tier, wherever that lies; what tensors are views of."""

    size_bytes: int

    def slice(self, offset: int, size_bytes: int) -> Memory:
        """A part of this piece."""

    def view(self, offset: int, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
        """A tensor at `offset` bytes; the same memory, never a copy."""


class Tier(Protocol):
    """A capacity in bytes that what is taken from it never exceeds."""

    name: str
    capacity_bytes: int
    used_bytes: int

    def allocate(self, purpose: str, size_bytes: int) -> Memory:
        """Memory for `purpose`; raises BudgetError if the tier cannot hold it."""


def take_bytes(tier: Tier, purpose: str, size_bytes: int) -> int:
    """Whole pages for `size_bytes`; raises BudgetError if `tier` cannot hold them."""
    rounded_bytes = align_up(size_bytes, PAGE_BYTES)
    left_bytes = tier.capacity_bytes - tier.used_bytes
    if rounded_bytes > left_bytes:
        raise BudgetError(
            f"The {tier.name} tier has {format_bytes(left_bytes)} left, {purpose} needs "
            f"{format_bytes(rounded_bytes)}; raise its budget."
        )
    return rounded_bytes


class Arena:
    """A page-aligned piece of a tier; the tensors of the package are views into arenas."""

    def __init__(self, mapping: mmap.mmap, offset: int, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.buffer = memoryview(mapping)[offset : offset + size_bytes]
        self._mapping = mapping
        self._offset = offset

    def slice(self, offset: int, size_bytes: int) -> Arena:
        """A part of this arena."""
        if offset + size_bytes > self.size_bytes:
            raise ValueError(f"{size_bytes} bytes at {offset} in an arena of {self.size_bytes}")
        return Arena(self._mapping, self._offset + offset, size_bytes)

    def through(self, last: Arena) -> Arena:
        """From the start of this arena to the end of one that follows in the same tier."""
        size_bytes = last._offset + last.size_bytes - self._offset
        return Arena(self._mapping, self._offset, size_bytes)

    def view(self, offset: int, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
        """A tensor at `offset` bytes of this arena; the same memory, never a copy."""
        count = math.prod(shape)
        if count == 0:
            return torch.empty(shape, dtype=dtype)
        if offset + count * dtype.itemsize > self.size_bytes:
            raise ValueError(f"view of {shape} {dtype} at {offset} in {self.size_bytes} bytes")
        start = self._offset + offset
        return torch.frombuffer(self._mapping, dtype=dtype, count=count, offset=start).view(shape)


class MemoryTier:
    """A capacity in bytes that the arenas taken from it never exceed.

    Its pages lie on NUMA `nodes` in turn, if there are any.
    """

    def __init__(self, name: str, capacity_bytes: int, nodes: Sequence[int] = ()) -> None:
        self.name = name
        self.capacity_bytes = align_up(max(capacity_bytes, 1), PAGE_BYTES)
        self.used_bytes = 0
        more_bytes = HUGE_PAGE_BYTES - PAGE_BYTES  # to begin with a huge page
        mapped_bytes = self.capacity_bytes + more_bytes
        self._mapping = mmap.mmap(-1, mapped_bytes, flags=mmap.MAP_PRIVATE)
        self._start = -_address(self._mapping) % HUGE_PAGE_BYTES
        _want_huge_pages(self._mapping, self._start, self.capacity_bytes)
        if nodes:
            interleave(self._mapping, nodes)

    def allocate(self, purpose: str, size_bytes: int) -> Arena:
        """Memory for `purpose`; raises BudgetError if the tier cannot hold it."""
        rounded_bytes = take_bytes(self, purpose, size_bytes)
        arena = Arena(self._mapping, self._start + self.used_bytes, rounded_bytes)
        self.used_bytes += rounded_bytes
        return arena

    def whole(self) -> Tensor:
        """All bytes of the tier, uint8: what is pinned at once."""
        mapping, count = self._mapping, self.capacity_bytes
        return torch.frombuffer(mapping, dtype=torch.uint8, count=count, offset=self._start)

    def release(self) -> None:
        """Give the pages back, whoever still holds views: they read zeros from now on."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._mapping.madvise(mmap.MADV_DONTNEED)


def small_pages(size_bytes: int) -> memoryview:
    """Memory of which no page is a huge one, touched."""
    mapping = mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        mapping.madvise(mmap.MADV_NOHUGEPAGE)
    mapping.write(bytes(size_bytes))
    return memoryview(mapping)


def _address(mapping: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(mapping))


def _want_huge_pages(mapping: mmap.mmap, start: int, size_bytes: int) -> None:
    """For the whole ones alone: one that begins before the end would exceed the plan."""
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return
    whole_bytes = align_down(size_bytes, HUGE_PAGE_BYTES)
    mapping.madvise(mmap.MADV_NOHUGEPAGE)
    if whole_bytes:  # fewer page faults and TLB misses, too
        mapping.madvise(mmap.MADV_HUGEPAGE, start, whole_bytes)
