"""Attention inputs over a quantized cache, and the same with the values that it stands for."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from lm_offload.quant.kv_blocks import (
    Blocks,
    CacheShape,
    PackedBlocks,
    blocks_in,
    read_blocks,
    write_tokens,
)
from lm_offload.quant.kv_format import KV_FORMATS
from tests.kernels.paged import Case, Inputs, make_inputs

FORMATS = ("int8", "int4")


@dataclass(frozen=True)
class PackedInputs:
    """Queries, a quantized cache whose unused tokens are NaN, and the cache as floats."""

    keys: PackedBlocks
    values: PackedBlocks
    floats: Inputs


def empty_blocks(name: str, blocks: int, kv_heads: int, head_dim: int) -> list[Blocks]:
    """Keys and values of which every factor is NaN."""
    shape = CacheShape(blocks, kv_heads, head_dim, KV_FORMATS[name])
    memory = torch.full((2, shape.size_bytes), 255, dtype=torch.uint8)
    return [blocks_in(memory[0], shape, "tokens"), blocks_in(memory[1], shape, "channels")]


def pack_inputs(case: Case, name: str, seed: int = 0) -> PackedInputs:
    """Random inputs for a case, rounded by the reference."""
    inputs = make_inputs(case, seed)
    blocks, kv_heads, _, head_dim = inputs.keys.shape
    packed = empty_blocks(name, blocks, kv_heads, head_dim)
    used = ~inputs.keys[:, 0, :, 0].isnan()
    slots = used.flatten().nonzero().flatten()
    for cache, floats in zip(packed, (inputs.keys, inputs.values), strict=True):
        rows = floats.transpose(1, 2)[used]
        write_tokens(cache, rows, slots)
    numbers = torch.arange(blocks)
    known = [read_blocks(cache, numbers) for cache in packed]
    return PackedInputs(*packed, replace(inputs, keys=known[0], values=known[1]))
