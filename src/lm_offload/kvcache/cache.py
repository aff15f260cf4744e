"""The paged KV cache: for each layer, blocks of K and V in one arena inside the budget."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from lm_offload.arch.accounting import kv_bytes_per_token
from lm_offload.arch.config import ModelConfig
from lm_offload.quant.format import Format
from lm_offload.quant.kv_format import BLOCK_TOKENS

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.storage.arena import Tier


def kv_block_bytes(config: ModelConfig, format: Format) -> int:
    """Bytes of one block over all layers."""
    return BLOCK_TOKENS * kv_bytes_per_token(config, format)


class KVCache:
    """`keys[layer]` and `values[layer]`, each [blocks, kv_heads, block_tokens, head_dim].

    One head of one block is contiguous: decode attention reads it front to back. `spilled` layers
    have no place here.
    """

    def __init__(
        self,
        config: ModelConfig,
        num_blocks: int,
        format: Format,
        tier: Tier,
        spilled: Collection[int] = (),
    ) -> None:
        import torch

        from lm_offload.quant.kv_blocks import CacheShape, blocks_in

        self.num_blocks = num_blocks
        shape = CacheShape(num_blocks, config.num_kv_heads, config.head_dim, format)
        layers = [layer for layer in range(config.num_layers) if layer not in spilled]
        self.block_bytes = kv_block_bytes(config, format) // config.num_layers * len(layers)
        arena = tier.allocate("the KV cache", num_blocks * self.block_bytes)
        parts = [
            arena.view(index * shape.size_bytes, torch.uint8, (shape.size_bytes,))
            for index in range(2 * len(layers))
        ]
        self.keys = {
            layer: blocks_in(part, shape, "tokens")
            for layer, part in zip(layers, parts[0::2], strict=True)
        }
        self.values = {
            layer: blocks_in(part, shape, "channels")
            for layer, part in zip(layers, parts[1::2], strict=True)
        }
        self._parts = [part.view(num_blocks, -1) for part in parts]

    def block_parts(self, block: int) -> list[Tensor]:
        """Keys, then values of each layer here, of one block: uint8 views, `block_bytes` in all."""
        return [part[block] for part in self._parts]


def blocks_for(num_tokens: int) -> int:
    """Blocks that hold `num_tokens` positions of one sequence."""
    return -(-num_tokens // BLOCK_TOKENS)
