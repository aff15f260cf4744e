"""The paged KV cache: for each layer, blocks of K and V in one arena inside the budget."""

from __future__ import annotations

from functools import partial

import torch

from lm_offload.arch.accounting import kv_bytes_per_token
from lm_offload.arch.config import ModelConfig
from lm_offload.quant.format import Format
from lm_offload.quant.kv_blocks import BLOCK_TOKENS, Blocks, Lanes, PackedBlocks, block_shape
from lm_offload.storage.arena import Arena, MemoryTier

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def kv_block_bytes(config: ModelConfig, format: Format) -> int:
    """Bytes of one block over all layers."""
    return BLOCK_TOKENS * kv_bytes_per_token(config, format)


class KVCache:
    """`keys[layer]` and `values[layer]`, each [blocks, kv_heads, block_tokens, head_dim].

    One head of one block is contiguous: decode attention reads it front to back. In a cache of
    floats the tokens of a block lie side by side in the keys, the channels in the values, so that
    one register holds the same channel of several keys, or several channels of one value.
    """

    def __init__(
        self, config: ModelConfig, num_blocks: int, format: Format, tier: MemoryTier
    ) -> None:
        self.num_blocks = num_blocks
        size_bytes = num_blocks * kv_block_bytes(config, format)
        part_bytes = size_bytes // (2 * config.num_layers)
        arena = tier.allocate("the KV cache", size_bytes)
        parts = [
            arena.slice(index * part_bytes, part_bytes) for index in range(2 * config.num_layers)
        ]
        make = partial(_packed_blocks if format.is_packed else _float_blocks, config, format)
        self.keys = [make("tokens", num_blocks, part) for part in parts[0::2]]
        self.values = [make("channels", num_blocks, part) for part in parts[1::2]]


def blocks_for(num_tokens: int) -> int:
    """Blocks that hold `num_tokens` positions of one sequence."""
    return -(-num_tokens // BLOCK_TOKENS)


def _float_blocks(
    config: ModelConfig, format: Format, lanes: Lanes, num_blocks: int, arena: Arena
) -> Blocks:
    if lanes == "channels":
        shape = (num_blocks, config.num_kv_heads, BLOCK_TOKENS, config.head_dim)
        return arena.view(0, DTYPES[format.name], shape)
    shape = (num_blocks, config.num_kv_heads, config.head_dim, BLOCK_TOKENS)
    return arena.view(0, DTYPES[format.name], shape).transpose(2, 3)


def _packed_blocks(
    config: ModelConfig, format: Format, lanes: Lanes, num_blocks: int, arena: Arena
) -> Blocks:
    shape = (num_blocks, *block_shape(format, config.num_kv_heads, config.head_dim))
    return PackedBlocks(arena.view(0, torch.uint8, shape), format, config.head_dim, lanes)
