"""Fills the KV cache of an engine with made-up keys and values, in memory and on disk alike.

Prefilling a long context takes minutes that say nothing about decode. A few blocks are rounded from
random numbers and laid out over all blocks in a pattern that differs by layer and block, so that a
block read from a wrong place changes the tokens.
"""

from __future__ import annotations

import mmap

import torch
from torch import Tensor

from lm_offload.arch.config import ModelConfig
from lm_offload.engine.machinery import Machinery
from lm_offload.kernels.base import Kernels
from lm_offload.kvcache.cache import KVCache, kv_block_bytes
from lm_offload.quant.format import Format
from lm_offload.quant.kv_blocks import Blocks, PackedBlocks
from lm_offload.quant.kv_format import BLOCK_TOKENS
from lm_offload.storage.arena import MemoryTier

PATTERNS = 61  # different blocks
WRITTEN_BLOCKS = 256  # at once


def fill(machinery: Machinery, config: ModelConfig, format: Format, kernels: Kernels) -> None:
    """Give every block of every layer its content."""
    keys, values = _patterns(config, format, kernels)
    numbers = torch.arange(machinery.plan.kv_blocks)
    for layer, home in machinery.cache.keys.items():
        wanted = _pattern_of(layer, numbers)
        _bytes(home).copy_(keys[wanted])
        _bytes(machinery.cache.values[layer]).copy_(values[wanted])
    for layer in machinery.plan.spill.layers:
        for some in torch.split(numbers, WRITTEN_BLOCKS):
            wanted = _pattern_of(layer, some)
            _write(machinery, layer, int(some[0]), keys[wanted], values[wanted])


def _pattern_of(layer: int, numbers: Tensor) -> Tensor:
    return (numbers * 7 + layer * 13) % PATTERNS


def _patterns(config: ModelConfig, format: Format, kernels: Kernels) -> tuple[Tensor, Tensor]:
    """Bytes of keys and of values [PATTERNS, bytes], as the engine's own kernel stores them."""
    tier = MemoryTier("CPU", PATTERNS * kv_block_bytes(config, format))
    cache = KVCache(config, PATTERNS, format, tier)
    generator = torch.Generator().manual_seed(0)
    tokens = PATTERNS * BLOCK_TOKENS
    shape = (tokens, config.num_kv_heads, config.head_dim)
    k, v = (torch.randn(shape, generator=generator) for _ in range(2))
    kernels.store_kv(k, v, cache.keys[0], cache.values[0], torch.arange(tokens))
    return _bytes(cache.keys[0]).clone(), _bytes(cache.values[0]).clone()


def _bytes(blocks: Blocks) -> Tensor:
    """The memory of blocks [blocks, bytes]."""
    if isinstance(blocks, PackedBlocks):
        return blocks.data.flatten(1)
    inner = blocks if blocks.is_contiguous() else blocks.transpose(2, 3)
    return inner.flatten(1).view(torch.uint8)


def _write(machinery: Machinery, layer: int, first: int, keys: Tensor, values: Tensor) -> None:
    assert machinery.staged is not None
    block_bytes = machinery.staged.cache.block_bytes
    memory = mmap.mmap(-1, len(keys) * block_bytes)  # page-aligned, as direct writes want it
    flat = torch.frombuffer(memory, dtype=torch.uint8)
    blocks = flat.view(len(keys), block_bytes)
    blocks[:, : keys.shape[1]] = keys
    blocks[:, keys.shape[1] : 2 * keys.shape[1]] = values
    for index in range(len(keys)):
        block = memoryview(memory)[index * block_bytes : (index + 1) * block_bytes]
        machinery.staged.cache.write_block(layer, first + index, block)
