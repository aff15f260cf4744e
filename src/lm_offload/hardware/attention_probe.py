"""Attention over the paged cache by KV format, shape of heads and context."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from lm_offload.hardware.attention_batch import batch_of
from lm_offload.hardware.attention_rates import HeadShape, rate_key
from lm_offload.hardware.attention_setting import CPU, ON_CPU, Key, Setting
from lm_offload.hardware.attention_work import Layer, Rows, asked_work, replayed_work, rows_of
from lm_offload.hardware.curve import Curve
from lm_offload.hardware.product_probe import work_s
from lm_offload.kernels.base import Kernels
from lm_offload.micro_batch import MicroBatch
from lm_offload.quant.format import parse_format
from lm_offload.quant.kv_blocks import CacheShape, blocks_in
from lm_offload.quant.kv_format import head_bytes
from lm_offload.storage.arena import Memory

KV_HEADS = 4
LEAST_LAYERS = {"cached": 2}  # by kind: a call is not to find what the last one left
LONG = 512  # context from which on attention is bound by its blocks
MOST_LAYERS = 256


@dataclass(frozen=True)
class AttentionRates:
    """Curves by the tokens that a row sees, named as `attention_rates.rate_key` does."""

    decode_bytes_per_s: dict[str, Curve]
    prefill_flops: dict[str, Curve]
    apart_frac: dict[str, float]  # by format: what is left where the blocks of a layer lie apart
    cached_speedup: dict[str, Curve]  # of decode, where the last-level cache keeps all


def measure_attention(
    kernels: Kernels,
    shapes: Mapping[str, Sequence[HeadShape]],
    contexts: Iterable[int],
    arena: Memory,
    kernel_s: float,
    budget_s: float,
    setting: Setting = ON_CPU,
) -> AttentionRates:
    """Rates by format, shapes of heads and contexts, which ascend; `kernel_s` is taken off.

    A context whose keys and values do not fit into `arena` is left out.
    """
    arena.view(0, torch.uint8, (arena.size_bytes,)).zero_()  # finite in every format
    works: dict[Key, Callable[[], None]] = {}
    amounts: dict[Key, int] = {}
    seen: dict[Key, float] = {}
    pairs = [(format, shape) for format, some in shapes.items() for shape in some]
    for context, (format, shape) in itertools.product(contexts, pairs):
        for kind in _kinds(setting, context, is_first=shape == shapes[format][0]):
            key = Key(kind, format, shape, context)
            batch = batch_of(context, *_rows(setting, kind, context), kind)
            layers = _layers(_home(arena, kind, setting), key, batch.block_tables.numel())
            if len(layers) >= LEAST_LAYERS.get(kind, 1):
                rows = rows_of(batch, layers, KV_HEADS * shape.group, setting.device)
                works[key] = _work(kernels, key, rows, setting)
                amounts[key], seen[key] = _amount(key, batch), _seen(batch)
    seconds = setting.seconds_of(works, budget_s)
    rates = {
        key: amounts[key] / work_s(call_s, setting.fixed_s(key.kind, kernel_s))
        for key, call_s in seconds.items()
    }
    decode, prefill = (_curves(rates, kind, seen) for kind in ("decode", "prefill"))
    faster = {key: max(x, 1.0) for key, x in _ratios(rates, "cached", "decode").items()}
    return AttentionRates(decode, prefill, _apart(rates), _curves(faster, "cached", seen))


def _kinds(setting: Setting, context: int, is_first: bool) -> Iterator[str]:
    """What is timed of one shape of heads; orders of blocks only of the first of a format."""
    yield "decode"
    if context >= LONG:
        if setting.cached_bytes:
            yield "cached"
        if setting.orders and is_first:
            yield from ("beside", "apart")
    yield "prefill"


def _rows(setting: Setting, kind: str, context: int) -> tuple[int, int]:
    """Sequences, and rows of each."""
    if kind == "prefill":
        return 1, min(setting.prompt_rows, context)
    return setting.sequences, 1


def _amount(key: Key, batch: MicroBatch) -> int:
    """Bytes of keys and values that a decode reads, or FLOPs of the tokens that a prefill sees."""
    if key.kind != "prefill":
        tokens = int(batch.context_lens.sum())
        return 2 * tokens * KV_HEADS * head_bytes(parse_format(key.format), key.shape.head_dim)
    visible = int(batch.positions.sum()) + batch.num_tokens
    return 4 * KV_HEADS * key.shape.group * key.shape.head_dim * visible


def _seen(batch: MicroBatch) -> float:
    """Tokens that a row sees, the mean over all rows."""
    return (int(batch.positions.sum()) + batch.num_tokens) / batch.num_tokens


def _curves(rates: dict[Key, float], kind: str, seen: Mapping[Key, float]) -> dict[str, Curve]:
    points: dict[str, dict[float, float]] = {}
    for key, rate in rates.items():
        if key.kind == kind:
            points.setdefault(rate_key(key.format, key.shape), {})[seen[key]] = rate
    return {name: Curve.through(at) for name, at in points.items()}


def _apart(rates: Mapping[Key, float]) -> dict[str, float]:
    """By format the mean over contexts, at most 1: attention is not to gain by it."""
    found: dict[str, list[float]] = {}
    for key, frac in _ratios(rates, "apart", "beside").items():
        found.setdefault(key.format, []).append(frac)
    return {format: min(statistics.mean(fracs), 1.0) for format, fracs in found.items()}


def _ratios(rates: Mapping[Key, float], kind: str, base: str) -> dict[Key, float]:
    """Over the rates of another kind, of those that have both."""
    bases = {key: rates.get(key._replace(kind=base)) for key in rates if key.kind == kind}
    return {key: rates[key] / base_rate for key, base_rate in bases.items() if base_rate}


def _home(arena: Memory, kind: str, setting: Setting) -> Memory:
    """What the caches of the layers are cut from; a small part where that one is to keep them."""
    kept_bytes = min(setting.cached_bytes, arena.size_bytes)
    return arena.slice(0, kept_bytes) if kind == "cached" else arena


def _layers(arena: Memory, key: Key, blocks: int) -> list[Layer]:
    """Keys and values of as many layers as fit; empty where not one does."""
    shape = CacheShape(blocks, KV_HEADS, key.shape.head_dim, parse_format(key.format))
    layers = min(arena.size_bytes // shape.size_bytes // 2, MOST_LAYERS)
    count, block_bytes = 2 * layers, shape.size_bytes // blocks
    if key.kind == "apart":
        parts = arena.view(0, torch.uint8, (blocks, count, block_bytes)).unbind(1)
    else:
        parts = arena.view(0, torch.uint8, (count, blocks, block_bytes)).unbind(0)
    keys = (blocks_in(part, shape, "tokens") for part in parts[0::2])
    values = (blocks_in(part, shape, "channels") for part in parts[1::2])
    return list(zip(keys, values, strict=True))


def attention_work(
    arena: Memory, kind: str, shape: HeadShape, context: int
) -> Callable[[Kernels], Callable[[], None]]:
    """From kernels to a function that attends in the next bf16 layer of `arena` at each call.

    `kind` is "decode" or "prefill"; the context is shorter where not even one layer fits.
    """
    arena.view(0, torch.uint8, (arena.size_bytes,)).zero_()
    while True:
        batch = batch_of(context, *_rows(ON_CPU, kind, context), kind)
        layers = _layers(arena, Key(kind, "bf16", shape, context), batch.block_tables.numel())
        if layers:
            rows = rows_of(batch, layers, KV_HEADS * shape.group, CPU)
            return lambda kernels: asked_work(kernels, rows)
        context //= 2


def _work(kernels: Kernels, key: Key, rows: Rows, setting: Setting) -> Callable[[], None]:
    """Decode is replayed where the setting says what that takes."""
    replayed = setting.replay_s is not None and key.kind != "prefill"
    return replayed_work(kernels, rows) if replayed else asked_work(kernels, rows)
