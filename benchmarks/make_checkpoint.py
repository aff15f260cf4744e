"""Write a random-weight checkpoint in Hugging Face layout, one block of weights at a time.

::

    python -m benchmarks.make_checkpoint 1.1b --out .checkpoints/llama-1.1b

The weights mean nothing, but their scale keeps activations near unit variance, so speed, memory
and overflow behave as with a trained model. A complete checkpoint of the same settings is kept.
With `--damping` the layers after the first add less, so that the first one alone is a good draft.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO

import torch

from benchmarks.checkpoint_files import shard_name, small_files
from benchmarks.checkpoint_shapes import (
    DTYPES,
    PRESETS,
    Shape,
    Tensor,
    tensors_of,
)
from benchmarks.entry import parser_of, run

BLOCK_ELEMENTS = 1 << 22  # drawn at once: 16 MiB of fp32, the whole memory need of a run
FLUSH_BYTES = 256 << 20  # written pages are flushed and dropped at this interval

Blocks = Callable[[Tensor, torch.dtype, torch.Generator], Iterator[torch.Tensor]]


def split_into_shards(
    tensors: Iterator[Tensor], element_bytes: int, shard_bytes: int
) -> list[list[Tensor]]:
    """Fill shards in state-dict order; a tensor larger than a shard gets one of its own."""
    shards: list[list[Tensor]] = [[]]
    used_bytes = 0
    for tensor in tensors:
        size_bytes = tensor.elements * element_bytes
        if shards[-1] and used_bytes + size_bytes > shard_bytes:
            shards.append([])
            used_bytes = 0
        shards[-1].append(tensor)
        used_bytes += size_bytes
    return shards


def header_of(tensors: list[Tensor], dtype: str, seed: int) -> bytes:
    """A safetensors header (length prefix, JSON, padding to 8 bytes) for `tensors` in file order.

    The seed lies in the metadata, so that files of other settings are told apart by their header.
    """
    entries: dict[str, object] = {"__metadata__": {"format": "pt", "seed": str(seed)}}
    code, torch_dtype = DTYPES[dtype]
    offset = 0
    for tensor in tensors:
        end = offset + tensor.elements * torch_dtype.itemsize
        entries[tensor.name] = {
            "dtype": code,
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def write_shard(
    path: Path, header: bytes, tensors: list[Tensor], dtype: str, seed: int, blocks: Blocks
) -> None:
    """Write one file beside its final name and rename it; its pages leave the page cache."""
    partial = path.with_suffix(".partial")
    generator = torch.Generator().manual_seed(seed)
    with partial.open("wb") as file:
        file.write(header)
        unflushed_bytes = 0
        for tensor in tensors:
            for block in blocks(tensor, DTYPES[dtype][1], generator):
                unflushed_bytes += file.write(block.view(torch.uint8).numpy().data)
                if unflushed_bytes >= FLUSH_BYTES:
                    _flush_and_drop(file)
                    unflushed_bytes = 0
        _flush_and_drop(file)
    partial.replace(path)


def drawn_blocks(
    tensor: Tensor, dtype: torch.dtype, generator: torch.Generator
) -> Iterator[torch.Tensor]:
    """The values of a weight, a block at a time, each of them drawn."""
    for start in range(0, tensor.elements, BLOCK_ELEMENTS):
        block = torch.ones(min(BLOCK_ELEMENTS, tensor.elements - start))
        if tensor.std:
            block.normal_(0.0, tensor.std, generator=generator)
        yield block.to(dtype)


def _flush_and_drop(file: IO[bytes]) -> None:
    file.flush()
    os.fdatasync(file.fileno())
    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def is_complete_shard(path: Path, header: bytes, data_bytes: int) -> bool:
    """Whether `path` has exactly this header and the size that the header promises."""
    if not path.is_file() or path.stat().st_size != len(header) + data_bytes:
        return False
    with path.open("rb") as file:
        return file.read(len(header)) == header


def make_checkpoint(
    shape: Shape,
    dtype: str,
    shard_bytes: int,
    seed: int,
    out: Path,
    blocks: Blocks = drawn_blocks,
) -> int:
    """Write what is missing of the checkpoint under `out`; returns the bytes of weights written."""
    element_bytes = DTYPES[dtype][1].itemsize
    shards = split_into_shards(tensors_of(shape), element_bytes, shard_bytes)
    out.mkdir(parents=True, exist_ok=True)
    written_bytes = 0
    for i, members in enumerate(shards):
        # safetensors' own writer sorts a file's tensors by name
        tensors = sorted(members, key=lambda tensor: tensor.name)
        header = header_of(tensors, dtype, seed)
        data_bytes = sum(tensor.elements for tensor in tensors) * element_bytes
        path = out / shard_name(i, len(shards))
        if not is_complete_shard(path, header, data_bytes):
            write_shard(path, header, tensors, dtype, seed * 1000 + i, blocks)
            written_bytes += data_bytes
    for name, text in small_files(shape, dtype, shards).items():
        (out / name).write_text(text, encoding="utf-8")
    return written_bytes


def main() -> None:
    """Command line of this script."""
    parser = parser_of(__doc__)
    parser.add_argument("preset", choices=PRESETS)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--dtype", choices=DTYPES, default="bf16")
    parser.add_argument("--shard-size", type=int, help="bytes per file (default: by preset)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--damping", type=float, default=1.0, help="give it a folder of its own")
    args = parser.parse_args()
    shape = replace(PRESETS[args.preset], damping=args.damping)
    shard_bytes = args.shard_size or shape.shard_bytes
    written_bytes = make_checkpoint(shape, args.dtype, shard_bytes, args.seed, args.out)
    state = f"{written_bytes / 1e9:.2f} GB written" if written_bytes else "already complete"
    print(f"{args.preset} {args.dtype}: {state}")


if __name__ == "__main__":
    run(main)
