"""Whether kernels compute on a GPU what torch does there: a small case of each, before all else.

A compiler, a driver or a capability that was never tried may fail in any of them, and one that is
wrong would show in nothing but the text.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lm_offload.micro_batch import MicroBatch
from lm_offload.quant.format import Format
from lm_offload.quant.kv_blocks import CacheShape, blocks_in
from lm_offload.quant.kv_format import BLOCK_TOKENS
from lm_offload.quant.packed import PackedWeight
from lm_offload.quant.quantize import quantize

if TYPE_CHECKING:
    from lm_offload.kernels.base import Kernels

WIDTH, OUTPUTS, MANY_ROWS = 128, 24, 80
HEADS, KV_HEADS, HEAD_DIM = 4, 2, 64
CONTEXTS = (5, 20)  # of two sequences in decode
WEIGHTS = Format("int4", 64, symmetric=False)
CACHES = (Format("bf16"), Format("int8"))
TOLERANCE = 2e-2  # of the largest value: fp16 and TF32 are finer, what is wrong is coarser


def check(kernels: Kernels, reference: Kernels, device: torch.device) -> None:
    """Raises RuntimeError for an operation of `kernels` that differs from `reference`."""
    cases: dict[str, Callable[[Kernels, torch.device], Tensor]] = {
        "rms_norm": _norm,
        "rotary": _rotary,
        "linear": partial(_product, 2),
        "linear of many rows": partial(_product, MANY_ROWS),
        **{f"attention over {format}": partial(_attention, format) for format in CACHES},
    }
    for name, case in cases.items():
        found, wanted = case(kernels, device), case(reference, device)
        allowed = TOLERANCE * wanted.abs().max()
        if not ((found - wanted).abs() <= allowed).all():
            raise RuntimeError(f"{name} did not compute what torch does")


def _random(device: torch.device, *shape: int) -> Tensor:
    """The same values in every call; the generator that sampling draws from is left alone."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).to(device)


def _norm(kernels: Kernels, device: torch.device) -> Tensor:
    x = _random(device, 3, WIDTH)
    kernels.rms_norm(x, x[0].bfloat16(), 1e-6, x)
    return x


def _rotary(kernels: Kernels, device: torch.device) -> Tensor:
    x, angles = _random(device, 2, HEADS, HEAD_DIM), _random(device, 2, HEAD_DIM // 2)
    kernels.rotary(x, angles.cos(), angles.sin())
    return x


def _product(rows: int, kernels: Kernels, device: torch.device) -> Tensor:
    packed = quantize(_random(torch.device("cpu"), OUTPUTS, WIDTH), WEIGHTS, "a check")
    weight = PackedWeight(packed.data.to(device), packed.format, packed.shape)
    out = _random(device, rows, OUTPUTS)
    kernels.linear_add(_random(device, rows, WIDTH), weight, out)
    return out


def _attention(format: Format, kernels: Kernels, device: torch.device) -> Tensor:
    """Decode of two sequences, whose whole contexts are stored before."""
    tables = torch.tensor([[2, 0], [1, 3]], dtype=torch.int32)
    places = [
        table[position // BLOCK_TOKENS] * BLOCK_TOKENS + position % BLOCK_TOKENS
        for table, context in zip(tables, CONTEXTS, strict=True)
        for position in range(context)
    ]
    slots = torch.stack(places).long().to(device)
    shape = CacheShape(tables.numel(), KV_HEADS, HEAD_DIM, format)
    memory = torch.zeros(2, shape.size_bytes, dtype=torch.uint8).to(device)
    keys, values = blocks_in(memory[0], shape, "tokens"), blocks_in(memory[1], shape, "channels")
    stored = _random(device, len(slots), KV_HEADS, HEAD_DIM)
    kernels.store_kv(stored, stored + 1, keys, values, slots)
    q = _random(device, len(CONTEXTS), HEADS, HEAD_DIM)
    kernels.attention(q, keys, values, _decode(tables, device), HEAD_DIM**-0.5, q)
    return q


def _decode(tables: Tensor, device: torch.device) -> MicroBatch:
    """The last token of each sequence; what attention does not read is empty."""
    count, unused = len(CONTEXTS), torch.empty(0)
    starts = torch.arange(count + 1, dtype=torch.int32).to(device)
    lens = torch.tensor(CONTEXTS, dtype=torch.int32).to(device)
    return MicroBatch(0, count, unused, starts, lens, tables.to(device), unused)
