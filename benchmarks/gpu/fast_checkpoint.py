"""A random checkpoint at the speed of the disk: one block of weights is drawn and written again."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import torch

from benchmarks.make_checkpoint import BLOCK_ELEMENTS, PRESETS, Tensor, make_checkpoint

SEED = 0


def made(preset: str, folder: Path) -> Path:
    """The checkpoint of a preset under `folder`; one that is complete is kept."""
    out, shape = folder / f"llama-{preset}-repeated", PRESETS[preset]
    make_checkpoint(shape, "bf16", shape.shard_bytes, SEED, out, repeated_blocks)
    return out


def repeated_blocks(
    tensor: Tensor, dtype: torch.dtype, generator: torch.Generator
) -> Iterator[torch.Tensor]:
    """The values of a weight, the same in every block."""
    block = _block(tensor.std, dtype)
    for start in range(0, tensor.elements, BLOCK_ELEMENTS):
        yield block[: tensor.elements - start]


@cache
def _block(std: float, dtype: torch.dtype) -> torch.Tensor:
    block = torch.ones(BLOCK_ELEMENTS)
    if std:
        block.normal_(0.0, std, generator=torch.Generator().manual_seed(SEED))
    return block.to(dtype)
