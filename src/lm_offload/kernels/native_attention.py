"""What native code is told of attention and its cache, after checking the tensors."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import torch

from lm_offload.kernels import _native
from lm_offload.kernels.native_arguments import DTYPE_CODES, heads, indices, refuse, rows, vector
from lm_offload.quant.format import CODE_BITS
from lm_offload.quant.kv_blocks import PackedBlocks
from lm_offload.quant.kv_format import BLOCK_TOKENS

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.micro_batch import MicroBatch
    from lm_offload.quant.kv_blocks import Blocks

_WHOLE_CONTEXT = sys.maxsize


def rotation(x: Tensor, cos: Tensor, sin: Tensor) -> _native.Rotation:
    """Of x[T, heads, dim] by cos and sin[T, dim / 2]."""
    at, stride, head_stride, count, head_count, width = heads(x)
    cos_at, cos_stride, cos_rows, half = rows(cos)
    sin_at, sin_stride, sin_rows, sin_half = rows(sin)
    if cos_rows != count or sin_rows != count or half != sin_half or 2 * half > width:
        refuse("one row of cosines and sines per row of heads", x, cos, sin)
    return (
        at, stride, head_stride, cos_at, cos_stride, sin_at, sin_stride, count, head_count, half,
    )  # fmt: skip


def stored(k: Tensor, v: Tensor, keys: Blocks, values: Blocks, slots: Tensor) -> _native.Stored:
    """Of k and v[T, kv_heads, dim] into the slots[T] of a cache."""
    k_at, k_stride, k_head_stride, *k_shape = heads(k)
    v_at, v_stride, v_head_stride, *v_shape = heads(v)
    if k_shape != v_shape or k_shape[1] != keys.shape[1] or k_shape[2] != keys.shape[3]:
        refuse("keys and values of the cache's heads", k, v)
    return (
        k_at, k_stride, k_head_stride, v_at, v_stride, v_head_stride, _cache(keys, values),
        indices(slots, torch.int64, k_shape[0]), k_shape[0],
    )  # fmt: skip


def attended(
    q: Tensor,
    keys: Blocks,
    values: Blocks,
    batch: MicroBatch,
    scale: float,
    out: Tensor,
    window: int | None,
    softcap: float | None,
    sinks: Tensor | None,
) -> _native.Attention:
    """Of q[T, heads, dim] over a cache into out[T, heads, dim]."""
    at, stride, head_stride, *shape = heads(q)
    out_at, out_stride, out_head_stride, *out_shape = heads(out)
    if shape != out_shape or shape[1] % keys.shape[1] or shape[2] != keys.shape[3]:
        refuse("queries and an output that share the cache's heads", q, out)
    tables_at, tables_stride, sequences = _tables(batch.block_tables)
    sinks_at, sinks_code = (0, 0) if sinks is None else vector(sinks, shape[1])
    return (
        at, stride, head_stride, _cache(keys, values),
        indices(batch.query_starts, torch.int32, sequences + 1),
        indices(batch.context_lens, torch.int32, sequences),
        tables_at, tables_stride, sequences, shape[1],
        scale, window or _WHOLE_CONTEXT, softcap or 0.0, sinks_at, sinks_code,
        out_at, out_stride, out_head_stride,
    )  # fmt: skip


def _tables(x: Tensor) -> tuple[int, int, int]:
    """Address, row stride and sequences of block tables [sequences, blocks]."""
    sequences, blocks = x.shape
    stride, step = x.stride()
    if x.dtype is not torch.int32 or (step != 1 and blocks > 1):
        refuse("block tables of contiguous int32 rows", x)
    return x.data_ptr(), stride, sequences


def _cache(keys: Blocks, values: Blocks) -> _native.Cache:
    """The layout of a paged cache [blocks, kv_heads, BLOCK_TOKENS, head_dim]; see kvcache/cache.py.

    A quantized one is laid out as quant/kv_blocks.py says.
    """
    if isinstance(keys, PackedBlocks) or isinstance(values, PackedBlocks):
        return _packed_cache(keys, values)
    _, kv_heads, block_tokens, head_dim = keys.shape
    code, size = DTYPE_CODES.get(keys.dtype), keys.element_size()
    block_stride, head_stride, *inner = values.stride()
    if code is None or block_tokens != BLOCK_TOKENS or not keys.is_cpu or not values.is_cpu:
        refuse(f"float32, bfloat16 or float16 blocks of {BLOCK_TOKENS} tokens", keys)
    if values.shape != keys.shape or values.dtype is not keys.dtype:
        refuse("values of the shape and type of the keys", keys, values)
    if inner != [head_dim, 1] or keys.stride() != (block_stride, head_stride, 1, block_tokens):
        refuse("keys with adjacent tokens and values with adjacent channels", keys, values)
    at = keys.data_ptr(), values.data_ptr()
    return _native.cache(*at, code, 0, size * block_stride, size * head_stride, kv_heads, head_dim)


def _packed_cache(keys: Blocks, values: Blocks) -> _native.Cache:
    if (
        not (isinstance(keys, PackedBlocks) and isinstance(values, PackedBlocks))
        or (keys.lanes, values.lanes) != ("tokens", "channels")
        or (keys.shape, keys.format) != (values.shape, values.format)
    ):
        raise ValueError("A native kernel takes packed keys and packed values of one shape.")
    block_stride, head_stride, step = keys.data.stride()
    at = keys.data.data_ptr(), values.data.data_ptr()
    if step != 1 or values.data.stride() != keys.data.stride() or at[0] % 4 or at[1] % 4:
        refuse("aligned packed blocks with contiguous heads", keys.data, values.data)
    bits, (_, kv_heads, _, head_dim) = CODE_BITS[keys.format.name], keys.shape
    return _native.cache(*at, 0, bits, block_stride, head_stride, kv_heads, head_dim)
