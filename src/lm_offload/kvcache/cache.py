"""The paged KV cache: for each layer, blocks of K and V in one arena inside the budget."""

from __future__ import annotations

import torch
from torch import Tensor

from lm_offload.arch.accounting import kv_bytes_per_token
from lm_offload.arch.config import ModelConfig
from lm_offload.storage.arena import MemoryTier

BLOCK_TOKENS = 16


def kv_block_bytes(config: ModelConfig) -> int:
    """Bytes of one block over all layers, in the dtype of the checkpoint."""
    return BLOCK_TOKENS * kv_bytes_per_token(config, getattr(torch, config.dtype).itemsize)


class KVCache:
    """`keys[layer]` and `values[layer]`, each [blocks, kv_heads, block_tokens, head_dim].

    One head of one block is contiguous: decode attention reads it front to back.
    """

    def __init__(self, config: ModelConfig, num_blocks: int, tier: MemoryTier) -> None:
        self.num_blocks = num_blocks
        dtype: torch.dtype = getattr(torch, config.dtype)
        shape = (num_blocks, config.num_kv_heads, BLOCK_TOKENS, config.head_dim)
        part_bytes = num_blocks * kv_block_bytes(config) // (2 * config.num_layers)
        arena = tier.allocate("the KV cache", num_blocks * kv_block_bytes(config))
        parts = [
            arena.view(index * part_bytes, dtype, shape) for index in range(2 * config.num_layers)
        ]
        self.keys: list[Tensor] = parts[0::2]
        self.values: list[Tensor] = parts[1::2]


def blocks_for(num_tokens: int) -> int:
    """Blocks that hold `num_tokens` positions of one sequence."""
    return -(-num_tokens // BLOCK_TOKENS)
