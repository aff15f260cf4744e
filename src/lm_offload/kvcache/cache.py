"""The paged KV cache: for each layer, blocks of K and V in one arena inside the budget."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Literal

from lm_offload.arch.accounting import kv_bytes_per_token
from lm_offload.arch.config import ModelConfig
from lm_offload.quant.format import Format
from lm_offload.quant.kv_format import BLOCK_TOKENS
from lm_offload.sequence import Chunk

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from lm_offload.storage.arena import Tier

Order = Literal["layers", "blocks"]  # what lies side by side: a layer, or a block


def kv_block_bytes(
    config: ModelConfig, format: Format, layers: Collection[int] | None = None
) -> int:
    """Bytes of one block over these layers, or over all that keep keys and values."""
    return BLOCK_TOKENS * kv_bytes_per_token(config, format, layers)


class KVCache:
    """`keys[layer]` and `values[layer]`, each [blocks, kv_heads, block_tokens, head_dim].

    One head of one block is contiguous: decode attention reads it front to back. `spilled` layers
    have no place here, nor have recurrent ones. Layers that read what another one keeps have its
    tensors.
    """

    def __init__(
        self,
        config: ModelConfig,
        num_blocks: int,
        format: Format,
        tier: Tier,
        spilled: Collection[int] = (),
        order: Order = "layers",
    ) -> None:
        import torch

        from lm_offload.quant.kv_blocks import CacheShape, blocks_in

        self.num_blocks = num_blocks
        layers = [layer for layer in config.kv_layers if layer not in spilled]
        shapes = {
            layer: CacheShape(num_blocks, *config.kv_shape(layer), format) for layer in layers
        }
        self.block_bytes = kv_block_bytes(config, format, layers)
        self.memory = tier.allocate("the KV cache", num_blocks * self.block_bytes)
        sizes = [shape.size_bytes // num_blocks for shape in shapes.values() for _ in "kv"]
        if order == "layers":
            whole = self.memory.view(0, torch.uint8, (num_blocks * self.block_bytes,))
            each = torch.split(whole, [num_blocks * size for size in sizes])
            parts = [part.view(num_blocks, -1) for part in each]
        else:
            whole = self.memory.view(0, torch.uint8, (num_blocks, self.block_bytes))
            parts = [*torch.split(whole, sizes, dim=1)]
        self.keys = {
            layer: blocks_in(part, shapes[layer], "tokens")
            for layer, part in zip(layers, parts[0::2], strict=True)
        }
        self.values = {
            layer: blocks_in(part, shapes[layer], "channels")
            for layer, part in zip(layers, parts[1::2], strict=True)
        }
        for reader, layer in enumerate(place.kv_of for place in config.layers):
            if layer in shapes:
                self.keys[reader], self.values[reader] = self.keys[layer], self.values[layer]
        self._parts = parts

    def join(self, other: KVCache) -> None:
        """Take in the layers of a cache in another tier, whose blocks have the same numbers."""
        self.keys |= other.keys
        self.values |= other.values

    def blocks_of(self, piece: Chunk) -> Sequence[int]:
        """Where the blocks of the positions up to the end of a piece lie."""
        return numbered_blocks(piece)

    def drop(self, numbers: Iterable[int]) -> None:
        """Nobody needs these blocks any more."""

    def block_parts(self, block: int) -> list[Tensor]:
        """Keys, then values of each layer here, of one block: uint8 views, `block_bytes` in all."""
        return [part[block] for part in self._parts]

    def copy_out(self, block: int, memory: NDArray[np.uint8]) -> None:
        """Copy all parts of a block to `memory`, which is in the CPU tier as they are."""
        import numpy as np

        np.concatenate([part.numpy() for part in self.block_parts(block)], out=memory)

    def copy_in(self, block: int, memory: NDArray[np.uint8]) -> None:
        """Fill all parts of a block from what `copy_out` gave."""
        start = 0
        for part in self.block_parts(block):
            part.numpy()[:] = memory[start : start + len(part)]
            start += len(part)


def numbered_blocks(piece: Chunk) -> Sequence[int]:
    """The numbers of the blocks up to the end of a piece, in order of position."""
    return piece.sequence.blocks[: blocks_for(piece.stop)]


def blocks_for(num_tokens: int) -> int:
    """Blocks that hold `num_tokens` positions of one sequence."""
    return -(-num_tokens // BLOCK_TOKENS)
