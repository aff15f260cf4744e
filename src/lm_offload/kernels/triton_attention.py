"""Causal attention over the paged cache in Triton, a softmax in one pass (arXiv:1805.02867).

A program has a tile of rows of one sequence, all query heads that share a head of the cache, and a
part of the context. Where tiles are few, as in decode, the context is split into parts and a
second kernel joins them (arXiv:2311.01282); a single part is the result itself.

Nothing is asked of the device: which sequence a tile belongs to is found in the kernel, and there
is a tile for each full one and one more for each sequence, of which some are empty.

Products are in TF32 where the GPU has it (8.0 and later), which holds keys and values of bf16 and
fp16 exactly, and in float32 else; a cache of float32 is never rounded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl

from lm_offload.kernels.triton_cache import cache_arguments, head_shape, key_tile, value_tile
from lm_offload.quant.kv_format import BLOCK_TOKENS

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.kernels.torch_attention import Scores
    from lm_offload.micro_batch import MicroBatch
    from lm_offload.quant.kv_blocks import Blocks

WANTED_PROGRAMS = 512  # a few for each processor of a large GPU
MIN_PART_TOKENS = 256
TILE_ELEMENTS = 4096  # of queries, keys or values: together 48 KiB in float32
MIN_TILE, MAX_TILE = 16, 32
NO_WINDOW = 1 << 30
LOWEST = tl.constexpr(-1e38)  # below any score


def paged_attention(
    q: Tensor, keys: Blocks, values: Blocks, batch: MicroBatch, scores: Scores, out: Tensor
) -> None:
    """Attention of q[T, heads, head_dim] into `out`; shapes as `Kernels.attention`."""
    rows, heads, channels = q.shape
    sequences, longest_blocks = batch.block_tables.shape
    if not rows:
        return
    shape, kv_heads = head_shape(keys), keys.shape[1]
    tokens = min(max(TILE_ELEMENTS // shape.block, MIN_TILE), MAX_TILE)
    shared = heads // kv_heads
    block_rows = max(triton.next_power_of_2(shared), MIN_TILE if rows == sequences else tokens)
    tiles = rows // (block_rows // shared) + sequences
    parts, part_tokens = split_context(longest_blocks * BLOCK_TOKENS, tiles * kv_heads, tokens)
    log_sums = torch.empty(parts, rows, heads, dtype=torch.float32, device=q.device)
    mixed = out[None] if parts == 1 else torch.empty(*log_sums.shape, channels, device=q.device)
    _attend[(tiles, kv_heads, parts)](
        q, cache_arguments(keys), cache_arguments(values),
        batch.block_tables, batch.query_starts, batch.context_lens, mixed, log_sums,
        rows, sequences, q.stride()[:2], batch.block_tables.stride(0), mixed.stride()[:3],
        part_tokens, scores.scale, scores.softcap, scores.window or NO_WINDOW,
        shared, block_rows, tokens, "ieee" if _is_float32(keys) else "tf32", *shape,
        num_warps=4 if block_rows == MIN_TILE else 8,
    )  # fmt: skip
    if parts > 1:
        _join[(rows, heads)](mixed, log_sums, out, rows, parts, out.stride()[:2], *shape[::3])


def split_context(longest_tokens: int, programs: int, tile_tokens: int) -> tuple[int, int]:
    """Parts of the context and tokens of each, whole tiles, for so many programs without it."""
    parts = min(WANTED_PROGRAMS // programs, longest_tokens // MIN_PART_TOKENS)
    tiles = triton.cdiv(longest_tokens, tile_tokens)
    part_tiles = triton.cdiv(tiles, max(parts, 1))
    return triton.cdiv(tiles, part_tiles), part_tiles * tile_tokens


def _is_float32(cache: Blocks) -> bool:
    return getattr(cache, "dtype", None) is torch.float32


@triton.jit
def _rows_of(tile, starts, lens, sequences, TILE_ROWS: tl.constexpr):
    """Sequence of a tile, its first row, the end of its rows, and position less row."""
    low, high = 0, sequences  # the last sequence whose first tile is not after this one
    while high - low > 1:
        middle = (low + high) // 2
        if tl.load(starts + middle) // TILE_ROWS + middle <= tile:
            low = middle
        else:
            high = middle
    start, stop = tl.load(starts + low), tl.load(starts + low + 1)
    first = start + (tile - low - start // TILE_ROWS) * TILE_ROWS
    return low, first, stop, tl.load(lens + low) - stop


@triton.jit
def _capped(score, softcap):
    """softcap * tanh(score / softcap), where there is one."""
    if softcap is not None:
        score = softcap * (1 - 2 / (tl.exp(2 * score / softcap) + 1))
    return score


@triton.jit
def _walk(
    query, positions, keys, values, table, head, first_token, stop_token, end, softcap, window,
    TILE: tl.constexpr, PRECISION: tl.constexpr, CHANNELS: tl.constexpr, BITS: tl.constexpr,
    GROUP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The softmax of query [R, BLOCK] over some tokens, tile by tile: result, peak and total."""
    ROWS: tl.constexpr = query.shape[0]
    peak, total = tl.full((ROWS,), LOWEST, tl.float32), tl.zeros((ROWS,), tl.float32)
    result = tl.zeros((ROWS, BLOCK), tl.float32)
    for token in range(first_token, stop_token, TILE):
        key = key_tile(keys, table, token, end, head, CHANNELS, BITS, GROUP, BLOCK, TILE)
        score = _capped(tl.dot(query, key, input_precision=PRECISION), softcap)
        ahead = positions[:, None] - (token + tl.arange(0, TILE))[None, :]
        score = tl.where((ahead >= 0) & (ahead < window), score, float("-inf"))
        new_peak = tl.maximum(peak, tl.max(score, 1))
        weight, decay = tl.exp(score - new_peak[:, None]), tl.exp(peak - new_peak)
        value = value_tile(values, table, token, end, head, CHANNELS, BITS, GROUP, BLOCK, TILE)
        result = result * decay[:, None] + tl.dot(weight, value, input_precision=PRECISION)
        total = total * decay + tl.sum(weight, 1)
        peak = new_peak
    return result, peak, total


@triton.jit(do_not_specialize=["rows", "sequences", "table_stride", "part_tokens"])
def _attend(
    q, keys, values, tables, starts, lens, mixed, log_sums, rows, sequences,
    q_strides, table_stride, mixed_strides, part_tokens, scale, softcap, window,
    SHARED: tl.constexpr, BLOCK_ROWS: tl.constexpr, TILE: tl.constexpr,
    PRECISION: tl.constexpr, CHANNELS: tl.constexpr, BITS: tl.constexpr, GROUP: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """mixed[part, row, head] over a part of the context, and log(sum(exp(scores))) of it."""
    TILE_ROWS: tl.constexpr = BLOCK_ROWS // SHARED
    head, part = tl.program_id(1), tl.program_id(2)
    sequence, first, stop, past = _rows_of(tl.program_id(0), starts, lens, sequences, TILE_ROWS)
    if first >= stop:
        return
    index, channel = tl.arange(0, BLOCK_ROWS), tl.arange(0, BLOCK)[None, :]
    row, query_head = first + index // SHARED, head * SHARED + index % SHARED
    inside = (index < TILE_ROWS * SHARED) & (row < stop)
    known = inside[:, None] & (channel < CHANNELS)
    at = row.to(tl.int64) * q_strides[0] + query_head * q_strides[1]
    query = tl.load(q + at[:, None] + channel, mask=known, other=0.0) * scale
    end = tl.minimum(first + TILE_ROWS, stop) + past
    low = tl.maximum(first + past - window + 1, 0) // TILE * TILE
    result, peak, total = _walk(
        query, row + past, keys, values, tables + sequence * table_stride, head,
        tl.maximum(low, part * part_tokens), tl.minimum(end, (part + 1) * part_tokens), end,
        softcap, window, TILE, PRECISION, CHANNELS, BITS, GROUP, BLOCK,
    )  # fmt: skip
    result = result / tl.where(total == 0, 1.0, total)[:, None]  # 0 where it sees nothing of it
    at = (
        part.to(tl.int64) * mixed_strides[0]
        + row * mixed_strides[1]
        + query_head * mixed_strides[2]
    )
    tl.store(mixed + at[:, None] + channel, result, mask=known)
    at = (part * rows + row) * (tl.num_programs(1) * SHARED) + query_head
    tl.store(log_sums + at, peak + tl.log(total), mask=inside)


@triton.jit(do_not_specialize=["rows", "parts"])
def _join(
    mixed, log_sums, out, rows, parts, out_strides, CHANNELS: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """out[row, head]: the parts, each weighted by its share of the sum of exponentials."""
    row, head, heads = tl.program_id(0), tl.program_id(1), tl.num_programs(1)
    channel = tl.arange(0, BLOCK)
    peak, total = tl.full((1,), LOWEST, tl.float32), tl.zeros((1,), tl.float32)
    result = tl.zeros((BLOCK,), tl.float32)
    for part in range(parts):
        at = (part * rows + row) * heads + head
        log_sum = tl.load(log_sums + at)
        new_peak = tl.maximum(peak, log_sum)
        weight, decay = tl.exp(log_sum - new_peak), tl.exp(peak - new_peak)
        values = tl.load(mixed + at * CHANNELS + channel, mask=channel < CHANNELS, other=0.0)
        result = result * decay + weight * values
        total = total * decay + weight
        peak = new_peak
    at = row.to(tl.int64) * out_strides[0] + head * out_strides[1] + channel
    tl.store(out + at, result / total, mask=channel < CHANNELS)
