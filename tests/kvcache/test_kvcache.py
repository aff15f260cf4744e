import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lm_offload.arch.config import load_config
from lm_offload.errors import BudgetError
from lm_offload.kvcache.blocks import BlockAllocator
from lm_offload.kvcache.cache import KVCache, blocks_for, kv_block_bytes
from lm_offload.quant.format import format_of_dtype
from lm_offload.quant.kv_format import BLOCK_TOKENS, KV_FORMATS
from lm_offload.storage.arena import MemoryTier


@given(st.lists(st.integers(0, 5), max_size=40), st.integers(1, 12))
def test_blocks_are_never_handed_out_twice_and_never_lost(counts, num_blocks):
    allocator, held = BlockAllocator(num_blocks), []
    for count in counts:
        if count <= allocator.num_free:
            held.append(allocator.allocate(count))
        elif held:
            allocator.free(held.pop(0))
        taken = [block for blocks in held for block in blocks]
        assert len(set(taken)) == len(taken)
        assert set(taken) <= set(range(num_blocks))
        assert len(taken) + allocator.num_free == num_blocks


def test_allocator_refuses_more_than_it_has():
    with pytest.raises(ValueError, match="3 KV blocks wanted, 2 free"):
        BlockAllocator(2).allocate(3)


def test_a_block_freed_twice_is_noticed():
    allocator = BlockAllocator(2)
    blocks = allocator.allocate(1)
    allocator.free(blocks)
    with pytest.raises(ValueError, match="freed twice"):
        allocator.free(blocks)


@pytest.mark.parametrize(("tokens", "blocks"), [(1, 1), (16, 1), (17, 2), (160, 10)])
def test_blocks_for(tokens, blocks):
    assert blocks_for(tokens) == blocks


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cache_fills_its_arena_with_distinct_memory(toy, dtype):
    config, format = load_config(toy("llama", dtype=dtype)), format_of_dtype(str(dtype)[6:])
    tier = MemoryTier("CPU", 3 * kv_block_bytes(config, format))
    cache = KVCache(config, 3, format, tier)
    parts = [*cache.keys.values(), *cache.values.values()]
    assert len(parts) == 2 * config.num_layers
    shape = (3, config.num_kv_heads, BLOCK_TOKENS, config.head_dim)
    assert {(part.shape, part.dtype) for part in parts} == {(torch.Size(shape), dtype)}
    for number, part in enumerate(parts):
        part.fill_(number)
    assert all(bool((part == number).all()) for number, part in enumerate(parts))
    assert sum(part.nbytes for part in parts) == 3 * kv_block_bytes(config, format)


@pytest.mark.parametrize(("name", "head_bytes"), [("int8", 18), ("int4", 12)])
def test_packed_cache_fills_its_arena_too(toy, name, head_bytes):
    config, format = load_config(toy("llama")), KV_FORMATS[name]
    assert kv_block_bytes(config, format) == 16 * 2 * config.num_layers * 2 * head_bytes
    tier = MemoryTier("CPU", 3 * kv_block_bytes(config, format))
    cache = KVCache(config, 3, format, tier)
    parts = [*cache.keys.values(), *cache.values.values()]
    assert {part.shape for part in parts} == {(3, config.num_kv_heads, 16, config.head_dim)}
    for number, part in enumerate(parts):
        part.data.fill_(number)
    assert all(bool((part.data == number).all()) for number, part in enumerate(parts))
    assert sum(part.data.nbytes for part in parts) == 3 * kv_block_bytes(config, format)


def test_cache_does_not_fit_a_smaller_tier(toy):
    config, format = load_config(toy("llama")), KV_FORMATS["fp32"]
    with pytest.raises(BudgetError, match="the KV cache needs"):
        KVCache(config, 3, format, MemoryTier("CPU", 2 * kv_block_bytes(config, format)))
