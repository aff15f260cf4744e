"""Elementwise kernels by the bytes that a call reads and writes; scales and tables not counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from lm_offload.hardware.attention_probe import KV_HEADS
from lm_offload.hardware.curve import Curve
from lm_offload.hardware.product_probe import work_s
from lm_offload.hardware.timing import typical_among_s, typical_s
from lm_offload.kernels.base import Kernels
from lm_offload.quant.format import Format
from lm_offload.quant.kv_blocks import CacheShape, blocks_in
from lm_offload.quant.kv_format import BLOCK_TOKENS

WIDTH, HEAD_DIM = 2048, 64
TABLE_ROWS = 1024  # of embeddings, bf16
F32_BYTES = torch.float32.itemsize


def measure_operations(
    kernels: Kernels,
    rows: Sequence[int],
    other: Callable[[], object],
    kernel_s: float,
    budget_s: float,
) -> dict[str, Curve]:
    """Bytes per second by name of the kernel; `kernel_s` is taken off.

    Kernels of several rows come after calls of `other`, as in prompts, those of one row after
    one another, as where decode is replayed.
    """
    calls = {(name, count): call for count in rows for name, call in _calls(kernels, count).items()}
    works = {key: call.work for key, call in calls.items()}
    single, several = (
        {key: work for key, work in works.items() if (key[1] > 1) == more} for more in (False, True)
    )
    seconds = typical_s(single, budget_s * len(single) / len(works))
    seconds |= typical_among_s(several, other, budget_s * len(several) / len(works))
    points: dict[str, dict[float, float]] = {}
    for (name, count), call_s in seconds.items():
        size_bytes = calls[name, count].size_bytes
        points.setdefault(name, {})[size_bytes] = size_bytes / work_s(call_s, kernel_s)
    return {name: Curve.through(at) for name, at in points.items()}


@dataclass(frozen=True)
class _Call:
    """One call of a kernel, and the bytes of activations that it reads and writes."""

    work: Callable[[], object]
    size_bytes: int


def _calls(kernels: Kernels, rows: int) -> dict[str, _Call]:
    x, y, out = (torch.rand(rows, WIDTH) for _ in range(3))
    scale, kv_width = torch.ones(WIDTH, dtype=torch.bfloat16), KV_HEADS * HEAD_DIM
    heads = x.view(rows, -1, HEAD_DIM)
    # A rotation in a tensor of its own: what only shrank would end as subnormal numbers, with
    # which some processors compute thirty times as slowly.
    angles, turned = torch.rand(rows, HEAD_DIM // 2), heads.clone()
    cos, sin = angles.cos(), angles.sin()
    k, v, slots = *(heads[:, :KV_HEADS] for _ in range(2)), torch.arange(rows)
    shape = CacheShape(-(-rows // BLOCK_TOKENS), KV_HEADS, HEAD_DIM, Format("bf16"))
    memory = torch.zeros(2, shape.size_bytes, dtype=torch.uint8)
    keys, values = blocks_in(memory[0], shape, "tokens"), blocks_in(memory[1], shape, "channels")
    table, numbers = torch.rand(TABLE_ROWS, WIDTH).bfloat16(), torch.randint(TABLE_ROWS, (rows,))
    moved = rows * WIDTH * F32_BYTES
    stored = 2 * rows * kv_width * (F32_BYTES + torch.bfloat16.itemsize)
    return {
        "rms_norm": _Call(lambda: kernels.rms_norm(x, scale, 1e-5, out), 2 * moved),
        "layer_norm": _Call(lambda: kernels.layer_norm(x, scale, scale, 1e-5, out), 2 * moved),
        "rotary": _Call(lambda: kernels.rotary(turned, cos, sin), 2 * moved),
        "store_kv": _Call(lambda: kernels.store_kv(k, v, keys, values, slots), stored),
        "silu_mul": _Call(lambda: kernels.silu_mul(x, y, out), 3 * moved),
        "gelu_tanh_mul": _Call(lambda: kernels.gelu_tanh_mul(x, y, out), 3 * moved),
        "relu": _Call(lambda: kernels.relu(y), 2 * moved),
        "gather": _Call(lambda: x[slots], 2 * moved),
        "embed": _Call(lambda: out.copy_(table[numbers]), moved + moved // 2),
    }
