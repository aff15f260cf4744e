"""Keys and values on their way into the cache: the codes and factors of the reference."""

from __future__ import annotations

import pytest
import torch

from lm_offload.kernels.torch_kernels import TorchKernels
from lm_offload.quant.kv_blocks import PackedBlocks
from tests.kernels.packed_cache import FORMATS, empty_blocks
from tests.kernels.paged import empty_cache

ROWS, HEADS, BLOCKS = 9, 2, 2


def new_tokens(head_dim: int) -> torch.Tensor:
    """Heads inside a fused projection, with all that is hard to round."""
    torch.manual_seed(head_dim)
    x = torch.randn(ROWS, HEADS + 2, head_dim + 1)[:, 1 : HEADS + 1, 1:]
    x[1, 1, 2], x[2, 0, 0], x[3, 1, 1] = torch.nan, torch.inf, -torch.inf
    x[4], x[5], x[6], x[7] = 0.0, 1e30, 1e-38, -3.0
    x[8] = torch.arange(head_dim) / 2.0
    return x


def assert_same(found: PackedBlocks, expected: PackedBlocks) -> None:
    codes = 16 * found.head_dim * (8 if found.format.name == "int8" else 4) // 8
    assert torch.equal(found.data[..., :codes], expected.data[..., :codes])
    factors = (cache.data[..., codes:].contiguous().view(torch.half) for cache in (found, expected))
    torch.testing.assert_close(*factors, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("head_dim", [8, 72])
def test_codes_are_those_of_the_reference(kernels, name, head_dim):
    x = new_tokens(head_dim)
    slots = torch.randperm(BLOCKS * 16)[:ROWS]
    found, expected = (empty_blocks(name, BLOCKS, HEADS, head_dim) for _ in range(2))
    for rows in (slice(0, 6), slice(6, ROWS), slice(4, 7)):  # the last ones once more
        for each, caches in ((kernels, found), (TorchKernels(1), expected)):
            each.store_kv(x[rows], -x[rows], *caches, slots[rows])
        x = x.flip(0)
    for cache, reference in zip(found, expected, strict=True):
        assert_same(cache, reference)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("head_dim", [5, 32])
def test_floats_are_rounded_as_torch_does(kernels, dtype, head_dim):
    x = new_tokens(head_dim)
    slots = torch.randperm(BLOCKS * 16)[:ROWS]
    found, expected = (empty_cache(BLOCKS, HEADS, head_dim, dtype) for _ in range(2))
    kernels.store_kv(x, -x, *found, slots)
    TorchKernels(1).store_kv(x, -x, *expected, slots)
    for cache, reference in zip(found, expected, strict=True):
        cut = (2.0**-7, 1e-38) if dtype is torch.bfloat16 else (0, 0)  # by the interpreter
        torch.testing.assert_close(cache, reference, rtol=cut[0], atol=cut[1], equal_nan=True)


def test_no_rows(kernels):
    caches = empty_cache(1, HEADS, 8, torch.float32)
    none = torch.empty(0, HEADS, 8)
    kernels.store_kv(none, none, *caches, torch.empty(0, dtype=torch.int64))
    assert all(cache.isnan().all() for cache in caches)
