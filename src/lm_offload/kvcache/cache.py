"""The paged KV cache: for each layer, blocks of K and V in one arena inside the budget."""

from __future__ import annotations

import torch

from lm_offload.arch.accounting import kv_bytes_per_token
from lm_offload.arch.config import ModelConfig
from lm_offload.quant.format import Format
from lm_offload.quant.kv_blocks import BLOCK_TOKENS, CacheShape, blocks_in
from lm_offload.storage.arena import Tier


def kv_block_bytes(config: ModelConfig, format: Format) -> int:
    """Bytes of one block over all layers."""
    return BLOCK_TOKENS * kv_bytes_per_token(config, format)


class KVCache:
    """`keys[layer]` and `values[layer]`, each [blocks, kv_heads, block_tokens, head_dim].

    One head of one block is contiguous: decode attention reads it front to back.
    """

    def __init__(self, config: ModelConfig, num_blocks: int, format: Format, tier: Tier) -> None:
        self.num_blocks = num_blocks
        shape = CacheShape(num_blocks, config.num_kv_heads, config.head_dim, format)
        arena = tier.allocate("the KV cache", num_blocks * kv_block_bytes(config, format))
        parts = [
            arena.view(index * shape.size_bytes, torch.uint8, (shape.size_bytes,))
            for index in range(2 * config.num_layers)
        ]
        self.keys = [blocks_in(part, shape, "tokens") for part in parts[0::2]]
        self.values = [blocks_in(part, shape, "channels") for part in parts[1::2]]


def blocks_for(num_tokens: int) -> int:
    """Blocks that hold `num_tokens` positions of one sequence."""
    return -(-num_tokens // BLOCK_TOKENS)
