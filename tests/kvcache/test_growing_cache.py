"""A cache whose blocks get the lowest free place when they are first used."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lm_offload import SamplingParams
from lm_offload.arch.config import load_config
from lm_offload.kvcache.cache import KVCache, kv_block_bytes
from lm_offload.kvcache.growing_cache import GrowingCache
from lm_offload.kvcache.places import BlockPlaces
from lm_offload.quant.kv_format import KV_FORMATS
from lm_offload.sequence import Chunk, Sequence
from lm_offload.storage.arena import MemoryTier

BLOCKS = 6


STEPS = st.tuples(st.sampled_from(["claim", "drop", "close gaps"]), st.sets(st.integers(0, 11)))


@given(st.lists(STEPS, max_size=30))
def test_places_are_the_lowest_that_are_free_and_never_shared(steps):
    places, held = BlockPlaces(12), dict[int, int]()
    for step, numbers in steps:
        if step == "claim":
            free = sorted(set(range(12)) - set(held.values()))
            new = places.claim(numbers)
            assert new == free[: len(numbers - held.keys())]
            held |= {number: int(places.of([number])[0]) for number in numbers}
        elif step == "drop":
            places.drop(numbers)
            held = {number: place for number, place in held.items() if number not in numbers}
        else:
            for source, target in places.close_gaps(len(numbers)):
                (number,) = (one for one, place in held.items() if place == source)
                assert target < source == max(held.values())
                held[number] = target
        assert places.of(sorted(held)).tolist() == [held[number] for number in sorted(held)]
        assert len(set(held.values())) == len(held) == places.num_used
        assert places.end == max(held.values(), default=-1) + 1
    list(places.close_gaps(12))
    assert places.end == len(held)


def cache_of(toy, name: str = "fp32", dtype=torch.float32) -> GrowingCache:
    config, format = load_config(toy("llama", dtype=dtype)), KV_FORMATS[name]
    tier = MemoryTier("CPU", BLOCKS * kv_block_bytes(config, format))
    return GrowingCache(config, BLOCKS, format, tier)


def chunk_of(blocks: list[int], start: int, stop: int) -> Chunk:
    sequence = Sequence(0, [0] * stop, SamplingParams(), blocks=blocks)
    return Chunk(sequence, start, stop)


@pytest.mark.parametrize("name", ["fp32", "int8", "int4"])
def test_a_block_is_one_piece_and_reads_like_those_of_other_caches(toy, name):
    cache = cache_of(toy, name)
    config, format = load_config(toy("llama")), KV_FORMATS[name]
    other = KVCache(config, BLOCKS, format, MemoryTier("CPU", cache.memory.size_bytes))
    for block in range(BLOCKS):
        for one, two in zip(cache.block_parts(block), other.block_parts(block), strict=True):
            one.copy_(two.random_())
    whole = cache.memory.view(0, torch.uint8, (BLOCKS, cache.block_bytes))
    assert bytes(whole[3].numpy()) == b"".join(bytes(p.numpy()) for p in other.block_parts(3))
    pairs = [(cache.keys, other.keys), (cache.values, other.values)]
    for mine, theirs in [(a[layer], b[layer]) for a, b in pairs for layer in a]:
        assert mine.shape == theirs.shape
        data = [
            getattr(blocks, "data", blocks) if name != "fp32" else blocks
            for blocks in (mine, theirs)
        ]
        assert torch.equal(
            data[0].contiguous().view(torch.uint8), data[1].contiguous().view(torch.uint8)
        )


def test_numbers_are_places_only_for_tokens_that_are_there(toy):
    cache = cache_of(toy)
    cache.hold([chunk_of([3, 4, 5], 0, 17), chunk_of([0, 1], 0, 4)])
    assert cache.used_blocks == 3
    assert cache.blocks_of(chunk_of([3, 4, 5], 0, 17)) == [0, 1]
    assert cache.blocks_of(chunk_of([0, 1], 0, 4)) == [2]
    cache.drop([3, 4, 5])
    assert cache.used_blocks == 3
    cache.drop([0])
    assert cache.used_blocks == 0


def test_what_is_taken_to_be_computed_gets_places_too(toy):
    cache = cache_of(toy)
    sequence = Sequence(0, [1] * 40, SamplingParams(), blocks=[5, 0, 3], num_computed=39)
    chunk = Chunk(sequence, 39, 40)
    cache.hold([chunk])
    assert sorted(cache.blocks_of(chunk)) == [0, 1, 2]


def test_what_is_lent_is_asked_back_and_cleaned_before_it_is_used(toy):
    cache, asked = cache_of(toy), []
    cache.hold([chunk_of([0, 1, 2], 0, 33)])
    whole = cache.memory.view(0, torch.uint8, (BLOCKS, cache.block_bytes))
    whole.fill_(255)

    def recall(used_bytes: int) -> None:
        assert bool((whole[3] == 255).all())
        asked.append(used_bytes // cache.block_bytes)
        cache.lend(cache.memory.size_bytes, recall)

    cache.lend(3 * cache.block_bytes + 7, recall)
    cache.hold([chunk_of([0, 1, 2], 33, 48)])
    assert not asked
    cache.hold([chunk_of([5], 0, 1)])
    assert asked == [4]
    assert (whole == 0).all(1).tolist() == [False, False, False, True, False, False]


def test_blocks_that_move_into_gaps_keep_what_they_hold(toy):
    cache = cache_of(toy)
    cache.hold([chunk_of([0, 1, 2, 3, 4], 0, 80)])
    for number in range(5):
        for part in cache.block_parts(number):
            part.fill_(number)
    cache.drop([0, 2])
    cache.close_gaps(1)
    assert (cache.used_blocks, cache.filled_blocks) == (4, 3)
    cache.close_gaps(5)
    assert (cache.used_blocks, cache.filled_blocks) == (3, 3)
    for number in (1, 3, 4):
        assert all(bool((part == number).all()) for part in cache.block_parts(number))
