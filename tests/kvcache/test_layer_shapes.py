"""A cache whose layers differ: bytes of blocks, layers that share, what may lie on disk."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lm_offload.arch.config import load_config
from lm_offload.kvcache.cache import KVCache, kv_block_bytes
from lm_offload.kvcache.spilled_size import spillable_layers, spilled_block_bytes
from lm_offload.quant.kv_format import BLOCK_TOKENS, KV_FORMATS
from lm_offload.storage.arena import MemoryTier
from tests.newer_toys import GEMMA4_LAYERED

BLOCKS = 3
NARROW, WIDE = (2, 16), (2, 32)  # KV heads and channels of layers with a window, and of others


@pytest.fixture(scope="module")
def config(toy):
    return load_config(toy("gemma4_text", **GEMMA4_LAYERED))


def test_layers_and_what_they_keep(config):
    assert config.kv_layers == (0, 1, 2)
    assert [layer.kv_of for layer in config.layers] == [None, None, None, 1, 2, 1]
    assert [config.kv_shape(layer) for layer in range(6)] == 3 * [NARROW, WIDE]
    assert config.usual_kv_shape == NARROW  # of two layers with as much as one of the others
    assert [config.of_layer(layer).query_size for layer in (0, 1)] == [64, 128]


@pytest.mark.parametrize("name", KV_FORMATS)
@pytest.mark.parametrize("order", ["layers", "blocks"])
def test_every_layer_has_its_own_shape_in_memory_of_its_own(config, name, order):
    format = KV_FORMATS[name]
    tier = MemoryTier("CPU", BLOCKS * kv_block_bytes(config, format))
    cache = KVCache(config, BLOCKS, format, tier, order=order)
    each = [kv_block_bytes(config, format, [layer]) for layer in config.kv_layers]
    assert cache.block_bytes == kv_block_bytes(config, format) == sum(each)
    for layer, blocks in cache.keys.items():
        kv_heads, head_dim = config.kv_shape(layer)
        wanted = (BLOCKS, kv_heads, BLOCK_TOKENS, head_dim)
        assert tuple(blocks.shape) == tuple(cache.values[layer].shape) == wanted
    parts = [part for block in range(BLOCKS) for part in cache.block_parts(block)]
    for number, part in enumerate(parts):
        part.fill_(number)
    assert all(bool((part == number).all()) for number, part in enumerate(parts))


def test_layers_that_share_have_the_same_tensors(config):
    format = KV_FORMATS["fp32"]
    tier = MemoryTier("CPU", BLOCKS * kv_block_bytes(config, format))
    cache = KVCache(config, BLOCKS, format, tier)
    assert cache.keys.keys() == cache.values.keys() == set(range(6))
    for reader, source in ((3, 1), (4, 2), (5, 1)):
        assert cache.keys[reader] is cache.keys[source]
        assert cache.values[reader] is cache.values[source]


def test_blocks_are_copied_out_and_in(config):
    format = KV_FORMATS["int8"]
    tier = MemoryTier("CPU", BLOCKS * kv_block_bytes(config, format))
    cache = KVCache(config, BLOCKS, format, tier)
    wanted = np.random.default_rng(0).integers(0, 255, cache.block_bytes, dtype=np.uint8)
    found = np.empty_like(wanted)
    cache.copy_in(1, wanted)
    cache.copy_out(1, found)
    assert (found == wanted).all()
    assert torch.equal(torch.cat(cache.block_parts(1)), torch.from_numpy(wanted))


def test_layers_of_the_usual_shape_that_no_other_reads_may_lie_on_disk(config):
    format = KV_FORMATS["fp32"]
    assert spillable_layers(config) == [0]
    assert spilled_block_bytes(config, format) == kv_block_bytes(config, format, [0])
    assert kv_block_bytes(config, format, [1]) == 2 * kv_block_bytes(config, format, [0])
