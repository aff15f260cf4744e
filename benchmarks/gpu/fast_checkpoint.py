"""A random checkpoint at the speed of the disk: one block of weights is drawn and written again."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import torch

from benchmarks.checkpoint_shapes import PRESETS, Tensor
from benchmarks.make_checkpoint import BLOCK_ELEMENTS, make_checkpoint
from lm_offload.errors import ConfigError

SEED = 0
BF16_CAPABILITY = 8.0  # earlier GPUs have tensor cores for fp16 alone


def dtype_for(device: str) -> str:
    """In what a GPU multiplies at full speed, by the driver's word; bf16 where that is not said."""
    kind, _, index = device.partition(":")
    if kind != "cuda":
        return "bf16"
    query = ["--query-gpu=compute_cap", "--format=csv,noheader", f"--id={index or 0}"]
    try:
        done = subprocess.run(
            ["nvidia-smi", *query], capture_output=True, text=True, timeout=10, check=True
        )
        return "bf16" if float(done.stdout) >= BF16_CAPABILITY else "fp16"
    except (OSError, subprocess.SubprocessError, ValueError):
        return "bf16"


def made(preset: str, dtype: str, folder: Path, seconds: float) -> Path:
    """The checkpoint of a preset under `folder`; what is complete of it is kept.

    Raises ConfigError where the disk takes longer than `seconds`.
    """
    out, shape = folder / f"llama-{preset}-{dtype}-repeated", PRESETS[preset]
    until_s = time.perf_counter() + seconds

    def blocks(
        tensor: Tensor, dtype: torch.dtype, generator: torch.Generator
    ) -> Iterator[torch.Tensor]:
        if time.perf_counter() > until_s:
            raise ConfigError(
                f"Writing {out} took more than {seconds:.0f} s; run again, which goes on with "
                "the next file, or give a faster disk as --folder, or a smaller --preset."
            )
        yield from repeated_blocks(tensor, dtype, generator)

    make_checkpoint(shape, dtype, shape.shard_bytes, SEED, out, blocks)
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
