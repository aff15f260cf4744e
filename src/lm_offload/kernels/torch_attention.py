"""Attention over the paged cache in torch: gathered per sequence, softmax by segments.

Every row walks the same segments of absolute positions, whatever was computed with it: a
segment that a row may not see changes nothing in its running softmax (Milakov and Gimelshein,
arXiv:1805.02867), so results do not depend on how a prompt was cut into chunks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from lm_offload.kernels.torch_linear import STABLE_ROWS
from lm_offload.quant.kv_blocks import PackedBlocks, read_blocks

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.micro_batch import MicroBatch
    from lm_offload.quant.kv_blocks import Blocks

SEGMENT_TOKENS = 256
TILE_ROWS = 128
_LOWEST = torch.finfo(torch.float32).min


@dataclass(frozen=True)
class Scores:
    """How a product of query and key becomes a score."""

    scale: float
    window: int | None
    softcap: float | None
    sinks: Tensor | None = None  # [heads] of nothing, which only the sum of the weights has


def paged_attention(
    q: Tensor, keys: Blocks, values: Blocks, batch: MicroBatch, scores: Scores, out: Tensor
) -> None:
    """Attention of q[T, heads, head_dim] into `out`; shapes as `Kernels.attention`."""
    starts = batch.query_starts.tolist()
    for index, context in enumerate(batch.context_lens.tolist()):
        start, stop = starts[index], starts[index + 1]
        if start == stop:
            continue
        table = batch.block_tables[index]
        k, v = (_gathered(cache, table, context) for cache in (keys, values))
        for first in range(start, stop, TILE_ROWS):
            tile = slice(first, min(stop, first + TILE_ROWS))
            positions = torch.arange(tile.start, tile.stop, device=q.device) + (context - stop)
            out[tile] = _attend(q[tile], k, v, positions, scores)


def _gathered(cache: Blocks, table: Tensor, context: int) -> Tensor:
    """The first `context` tokens as [kv_heads, tokens, head_dim], padded to whole segments."""
    _, kv_heads, block_tokens, head_dim = cache.shape
    numbers = table[: -(-context // block_tokens)].long()
    blocks = read_blocks(cache, numbers) if isinstance(cache, PackedBlocks) else cache[numbers]
    flat = blocks.transpose(0, 1).reshape(kv_heads, -1, head_dim)[:, :context].float()
    return functional.pad(flat, (0, 0, 0, -context % SEGMENT_TOKENS))


def _attend(q: Tensor, k: Tensor, v: Tensor, positions: Tensor, scores: Scores) -> Tensor:
    """Attention of q[R, heads, head_dim] at `positions` over k, v [kv_heads, tokens, head_dim]."""
    rows, heads, head_dim = q.shape
    kv_heads = k.shape[0]
    grouped = q.reshape(rows, kv_heads, -1, head_dim).permute(1, 2, 0, 3)
    flat = grouped.reshape(kv_heads, -1, head_dim)
    size = flat.shape[1]
    flat = functional.pad(flat, (0, 0, 0, max(0, STABLE_ROWS - size)))
    at = functional.pad(positions.repeat(heads // kv_heads), (0, flat.shape[1] - size))
    peak, total, mixed = _softmax_walk(flat, k, v, at, scores)
    if scores.sinks is not None:
        of_row = scores.sinks.float().view(kv_heads, -1).repeat_interleave(rows, 1)
        sinks = functional.pad(of_row, (0, flat.shape[1] - size)).unsqueeze(2)
        peak, total, mixed = _with_sinks(peak, total, mixed, sinks)
    result = (mixed / total)[:, :size]
    return result.reshape(kv_heads, -1, rows, head_dim).permute(2, 0, 1, 3).reshape(q.shape)


def _softmax_walk(
    q: Tensor, k: Tensor, v: Tensor, at: Tensor, scores: Scores
) -> tuple[Tensor, Tensor, Tensor]:
    """Online softmax of q[kv_heads, R, head_dim] over the segments of k and v.

    Returns the largest score, the sum of the weights relative to it and that of weighted values.
    """
    peak = q.new_full((*q.shape[:2], 1), _LOWEST)
    total = torch.zeros_like(peak)
    mixed = torch.zeros_like(q)
    for start in range(0, int(at.max()) + 1, SEGMENT_TOKENS):
        segment = slice(start, start + SEGMENT_TOKENS)
        score = _scores(q, k[:, segment], at, start, scores)
        new_peak = torch.maximum(peak, score.amax(-1, keepdim=True))
        weight = torch.exp(score - new_peak)
        decay = torch.exp(peak - new_peak)
        total = total * decay + weight.sum(-1, keepdim=True)
        mixed = mixed * decay + weight @ v[:, segment]
        peak = new_peak
    return peak, total, mixed


def _with_sinks(
    peak: Tensor, total: Tensor, mixed: Tensor, sinks: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The same sums with one more score, whose value is zero."""
    new_peak = torch.maximum(peak, sinks)
    decay = torch.exp(peak - new_peak)
    return new_peak, total * decay + torch.exp(sinks - new_peak), mixed * decay


def _scores(q: Tensor, k: Tensor, at: Tensor, start: int, scores: Scores) -> Tensor:
    """Masked scores of q against the keys at positions `start` and on."""
    score = (q @ k.transpose(1, 2)).mul_(scores.scale)
    if scores.softcap is not None:
        score = score.div_(scores.softcap).tanh_().mul_(scores.softcap)
    ahead = at[:, None] - torch.arange(start, start + k.shape[1], device=q.device)
    hidden = ahead < 0
    if scores.window is not None:
        hidden |= ahead >= scores.window
    return score.masked_fill_(hidden, -torch.inf)
