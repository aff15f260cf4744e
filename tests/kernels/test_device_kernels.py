"""Kernels for a device: tensors are made where the arguments are, values are those of torch."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from lm_offload.kernels.device_kernels import DeviceKernels
from lm_offload.kernels.torch_kernels import TorchKernels
from lm_offload.micro_batch import MicroBatch
from lm_offload.quant.format import parse_format
from lm_offload.quant.kv_blocks import CacheShape, blocks_in
from lm_offload.quant.kv_format import BLOCK_TOKENS
from lm_offload.quant.quantize import quantize

WIDTH, OUTPUTS, HEADS, HEAD_DIM = 64, 40, 2, 16
CONTEXTS = (5, 33)


@pytest.fixture
def elsewhere() -> Iterator[None]:
    """A tensor that is made without saying where lands on a device that has no values."""
    torch.set_default_device("meta")
    yield
    torch.set_default_device("cpu")


def rand(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, device="cpu") - 0.5


def weights() -> list:
    matrix = rand(OUTPUTS, WIDTH)
    packed = [quantize(matrix, parse_format(name), "w") for name in ("int8:32", "int4:32")]
    return [matrix, matrix.bfloat16(), *packed]


@pytest.mark.parametrize("weight", weights(), ids=["fp32", "bf16", "int8", "int4"])
@pytest.mark.parametrize("rows", [1, 7])
def test_products(elsewhere, weight, rows):
    x, bias, out, wanted = rand(rows, WIDTH), rand(OUTPUTS), rand(rows, OUTPUTS), None
    for kernels in (TorchKernels(1), DeviceKernels()):
        result = out.clone()
        kernels.linear(x, weight, result, bias)
        kernels.linear_add(x, weight, result)
        wanted = result if wanted is None else wanted
    rough = getattr(weight, "dtype", None) == torch.bfloat16
    torch.testing.assert_close(result, wanted, atol=0.05 if rough else 1e-5, rtol=0)


@pytest.mark.parametrize("name", ["bf16", "int8", "int4"])
def test_attention_and_cache(elsewhere, name):
    format = parse_format(name)
    shape = CacheShape(8, HEADS, HEAD_DIM, format)
    spaces = [torch.zeros(shape.size_bytes, dtype=torch.uint8, device="cpu") for _ in range(2)]
    keys, values = blocks_in(spaces[0], shape, "tokens"), blocks_in(spaces[1], shape, "channels")
    rows = sum(CONTEXTS)
    tables = torch.tensor([[3, 0, 0], [1, 5, 2]], dtype=torch.int32, device="cpu")
    slots = [
        int(tables[index, position // BLOCK_TOKENS]) * BLOCK_TOKENS + position % BLOCK_TOKENS
        for index, context in enumerate(CONTEXTS)
        for position in range(context)
    ]
    batch = MicroBatch(
        0, rows,
        positions=torch.arange(rows, device="cpu"),
        query_starts=torch.tensor([0, CONTEXTS[0], rows], dtype=torch.int32, device="cpu"),
        context_lens=torch.tensor(CONTEXTS, dtype=torch.int32, device="cpu"),
        block_tables=tables,
        slots=torch.tensor(slots, device="cpu"),
    )  # fmt: skip
    q, k, v = (rand(rows, HEADS, HEAD_DIM) for _ in range(3))
    out, kernels = torch.full_like(q, torch.nan), DeviceKernels()
    kernels.rotary(q, rand(rows, HEAD_DIM // 2), rand(rows, HEAD_DIM // 2))
    kernels.store_kv(k, v, keys, values, batch.slots)
    kernels.attention(q, keys, values, batch, 0.25, out, window=9, softcap=5.0)
    assert out.device.type == "cpu"
    assert bool(torch.isfinite(out).all())


def test_elementwise(elsewhere):
    x, weight = rand(3, WIDTH), rand(WIDTH)
    out, kernels = torch.empty_like(x), DeviceKernels()
    kernels.rms_norm(x, weight, 1e-5, out)
    kernels.rms_norm_plus_one(x, weight, 1e-5, out)
    kernels.layer_norm(x, weight, weight, 1e-5, out)
    kernels.silu_mul(x, x, out)
    kernels.gelu_tanh_mul(x, x, out)
    kernels.relu(out)
    assert out.device.type == "cpu"
    assert bool((out >= 0).all())
