import ctypes
import mmap

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lm_offload.errors import BudgetError
from lm_offload.storage.arena import MemoryTier
from lm_offload.units import HUGE_PAGE_BYTES, PAGE_BYTES, align_up


@given(st.lists(st.integers(0, 40_000), max_size=20), st.integers(0, 200_000))
def test_a_tier_never_hands_out_more_than_its_capacity(sizes, capacity):
    tier = MemoryTier("CPU", capacity)
    given_bytes = 0
    for size in sizes:
        try:
            arena = tier.allocate("a test", size)
        except BudgetError:
            assert align_up(size) > tier.capacity_bytes - given_bytes
            continue
        assert arena.size_bytes == align_up(size) >= size
        given_bytes += arena.size_bytes
        assert tier.used_bytes == given_bytes <= tier.capacity_bytes
    assert tier.capacity_bytes == align_up(max(capacity, 1))


def test_a_full_tier_says_what_needs_how_much():
    with pytest.raises(BudgetError, match=r"has 4\.00 KiB left, a test needs 8\.00 KiB"):
        MemoryTier("CPU", PAGE_BYTES).allocate("a test", 2 * PAGE_BYTES)


def test_arenas_are_distinct_page_aligned_memory():
    tier = MemoryTier("CPU", 4 * PAGE_BYTES)
    arenas = [tier.allocate("a test", 1) for _ in range(4)]
    views = [arena.view(0, torch.uint8, (PAGE_BYTES,)) for arena in arenas]
    for number, view in enumerate(views):
        view.fill_(number)
    assert [int(view.sum()) for view in views] == [number * PAGE_BYTES for number in range(4)]
    assert all(view.data_ptr() % PAGE_BYTES == 0 for view in views)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("offset", [0, 1, 6, 4095])
def test_views_are_the_arena_itself_at_any_offset(dtype, offset):
    arena = MemoryTier("CPU", 2 * PAGE_BYTES).allocate("a test", 2 * PAGE_BYTES)
    view = arena.view(offset, dtype, (3, 2))
    wanted = torch.tensor([[1, 2], [3, 4], [5, 6]], dtype=dtype)
    raw = wanted.view(torch.uint8).numpy().tobytes()
    arena.buffer[offset : offset + len(raw)] = raw
    assert torch.equal(view, wanted)
    view.zero_()
    assert bytes(arena.buffer[offset : offset + len(raw)]) == bytes(len(raw))


def test_a_slice_is_the_same_memory_and_keeps_its_bounds():
    arena = MemoryTier("CPU", 4 * PAGE_BYTES).allocate("a test", 3 * PAGE_BYTES)
    part = arena.slice(PAGE_BYTES, PAGE_BYTES)
    part.view(0, torch.uint8, (PAGE_BYTES,)).fill_(7)
    assert bytes(arena.buffer) == bytes(PAGE_BYTES) + b"\x07" * PAGE_BYTES + bytes(PAGE_BYTES)
    with pytest.raises(ValueError, match="in an arena of 4096"):
        part.slice(1, PAGE_BYTES)
    with pytest.raises(ValueError, match="in 4096 bytes"):
        part.view(4, torch.float32, (1024,))


def test_an_empty_view_needs_no_room():
    arena = MemoryTier("CPU", 1).allocate("nothing", 0)
    assert arena.view(0, torch.float32, (0, 5)).shape == (0, 5)


def test_pages_that_are_given_back_read_zeros_in_views_that_are_still_held():
    tier = MemoryTier("CPU", 2 * PAGE_BYTES)
    view = tier.allocate("a test", 2 * PAGE_BYTES).view(0, torch.uint8, (2 * PAGE_BYTES,)).fill_(7)
    tier.release()
    assert not view.any()


@pytest.mark.parametrize("size_bytes", [PAGE_BYTES, 2 * HUGE_PAGE_BYTES, 3 * HUGE_PAGE_BYTES // 2])
def test_a_tier_begins_with_a_huge_page_and_takes_no_more_than_its_capacity(size_bytes):
    tier = MemoryTier("CPU", size_bytes)
    whole = tier.whole()
    assert whole.numel() == size_bytes
    assert whole.data_ptr() % HUGE_PAGE_BYTES == 0
    first = tier.allocate("a test", PAGE_BYTES).view(0, torch.uint8, (1,))
    assert first.data_ptr() == whole.data_ptr()
    whole.fill_(1)
    assert resident_bytes(tier._mapping) == size_bytes


def resident_bytes(mapping: mmap.mmap) -> int:
    """Of an anonymous mapping, as mincore(2) says."""
    start = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
    pages = (ctypes.c_ubyte * (len(mapping) // PAGE_BYTES))()
    size = ctypes.c_size_t(len(mapping))
    assert ctypes.CDLL(None).mincore(ctypes.c_void_p(start), size, pages) == 0
    return PAGE_BYTES * sum(page & 1 for page in pages)
