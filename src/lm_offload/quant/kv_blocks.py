"""Blocks of a quantized KV cache: what is stored in which byte, and the way back.

A block holds the keys or the values of 16 tokens; one head of one block is contiguous and read
front to back::

    head | codes | scales [groups][16 tokens] fp16 | minimums [groups][16 tokens] fp16 (int4) |

Eight lanes make a tile, as eight rows of a packed weight do (quant/packing.py, whose order of
bytes and nibbles this is). A lane of the keys is a token and its columns are the channels, so that
eight scores come out of one register; a lane of the values is a channel and its columns are the
tokens, so that eight outputs do::

    keys    2 tiles of 8 tokens      head_dim columns each
    values  head_dim / 8 tiles       16 columns each
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from lm_offload.quant.format import CODE_BITS
from lm_offload.quant.kv import HeadCodes, dequantize_heads, quantize_heads
from lm_offload.quant.kv_format import BLOCK_TOKENS, LANES, groups_of, head_bytes
from lm_offload.quant.packing import code_bytes, code_values

if TYPE_CHECKING:
    from lm_offload.quant.format import Format

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
Lanes = Literal["tokens", "channels"]  # of keys, of values


@dataclass(frozen=True, eq=False)
class PackedBlocks:
    """The quantized keys or values of one layer; `shape` is that of a cache of floats."""

    data: Tensor  # uint8 [blocks, kv_heads, BLOCK_TOKENS * head_bytes]
    format: Format
    head_dim: int
    lanes: Lanes

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """blocks, kv_heads, block_tokens, head_dim."""
        blocks, kv_heads, _ = self.data.shape
        return blocks, kv_heads, BLOCK_TOKENS, self.head_dim


Blocks = Tensor | PackedBlocks  # [blocks, kv_heads, block_tokens, head_dim]


def address_of(blocks: Blocks) -> int:
    """Where the first block lies."""
    return (blocks.data if isinstance(blocks, PackedBlocks) else blocks).data_ptr()


@dataclass(frozen=True)
class CacheShape:
    """The keys, or the values, of one layer in a format."""

    num_blocks: int
    kv_heads: int
    head_dim: int
    format: Format

    @property
    def size_bytes(self) -> int:
        """Exact bytes, scales included."""
        tokens = self.num_blocks * BLOCK_TOKENS
        return tokens * self.kv_heads * head_bytes(self.format, self.head_dim)


def blocks_in(memory: Tensor, shape: CacheShape, lanes: Lanes) -> Blocks:
    """Keys (lanes are tokens) or values (channels) over uint8 [shape.size_bytes]; not a copy.

    Or over uint8 [blocks, bytes of one], which may lie apart.

    In a cache of floats the tokens of a block lie side by side in the keys, the channels in the
    values, so that one register holds the same channel of several keys or several channels of
    one value.
    """
    heads = shape.num_blocks, shape.kv_heads
    if shape.format.is_packed:
        return PackedBlocks(memory.view(*heads, -1), shape.format, shape.head_dim, lanes)
    floats = memory.view(DTYPES[shape.format.name])
    if lanes == "channels":
        return floats.view(*heads, BLOCK_TOKENS, shape.head_dim)
    return floats.view(*heads, shape.head_dim, BLOCK_TOKENS).transpose(2, 3)


def read_blocks(cache: PackedBlocks, numbers: Tensor) -> Tensor:
    """The values of some blocks, f32 [len(numbers), kv_heads, BLOCK_TOKENS, head_dim]."""
    return dequantize_heads(_unpack(cache, numbers), cache.format)


def write_tokens(cache: PackedBlocks, x: Tensor, slots: Tensor) -> None:
    """Round x[T, kv_heads, head_dim] into `slots` (block number * BLOCK_TOKENS + offset)."""
    if len(slots) == 0:
        return
    numbers, index = torch.unique(slots // BLOCK_TOKENS, return_inverse=True)
    old, new = _unpack(cache, numbers), quantize_heads(x, cache.format)
    offsets = slots % BLOCK_TOKENS
    for before, after in _pairs(old, new):
        before[index, :, offsets] = after
    cache.data[numbers] = _pack(old, cache)


def _pairs(old: HeadCodes, new: HeadCodes) -> list[tuple[Tensor, Tensor]]:
    pairs = [(old.codes, new.codes), (old.scales, new.scales)]
    if old.minimums is not None and new.minimums is not None:
        pairs.append((old.minimums, new.minimums))
    return pairs


def _pack(heads: HeadCodes, cache: PackedBlocks) -> Tensor:
    """Codes [n, kv_heads, BLOCK_TOKENS, head_dim] and their factors as bytes of whole blocks."""
    blocks, kv_heads, _, _ = heads.codes.shape
    codes = heads.codes if cache.lanes == "tokens" else heads.codes.transpose(2, 3)
    lanes = code_bytes(codes.flatten(0, 2), cache.format)
    tiles = lanes.view(-1, LANES, lanes.shape[1], 4).transpose(1, 2)
    parts = [tiles.reshape(blocks, kv_heads, -1)]
    for factors in (heads.scales, heads.minimums):
        if factors is not None:
            by_group = factors.transpose(2, 3).contiguous()
            parts.append(by_group.view(torch.uint8).flatten(2))
    return torch.cat(parts, dim=2)


def _unpack(cache: PackedBlocks, numbers: Tensor) -> HeadCodes:
    """The inverse of `_pack`."""
    data = cache.data[numbers]
    code_part = BLOCK_TOKENS * cache.head_dim * CODE_BITS[cache.format.name] // 8
    codes = _unpack_codes(cache, data[..., :code_part])
    floats = data[..., code_part:].contiguous().view(torch.float16)
    groups = groups_of(cache.format, cache.head_dim)
    kinds = floats.view(*data.shape[:2], -1, groups, BLOCK_TOKENS).transpose(3, 4)
    return HeadCodes(codes, kinds[:, :, 0], None if cache.format.symmetric else kinds[:, :, 1])


def _unpack_codes(cache: PackedBlocks, data: Tensor) -> Tensor:
    """Codes [n, kv_heads, BLOCK_TOKENS, head_dim]."""
    blocks, kv_heads, size_bytes = data.shape
    lanes = BLOCK_TOKENS if cache.lanes == "tokens" else cache.head_dim
    tiles = data.reshape(-1, size_bytes // lanes // 4, LANES, 4).transpose(1, 2)
    flat = code_values(tiles.reshape(blocks * kv_heads * lanes, -1, 4), cache.format)
    codes = flat.view(blocks, kv_heads, lanes, -1)
    return codes if cache.lanes == "tokens" else codes.transpose(2, 3)
