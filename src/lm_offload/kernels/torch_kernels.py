"""The operations in plain torch: the reference for tests, and what runs without native code."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from lm_offload.kernels import torch_linear
from lm_offload.kernels.torch_attention import Scores, paged_attention
from lm_offload.kernels.torch_experts import TorchExperts
from lm_offload.kernels.torch_states import TorchStates
from lm_offload.quant.kv_blocks import PackedBlocks, write_tokens

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from torch import Tensor

    from lm_offload.kernels.base import Product, Weight
    from lm_offload.micro_batch import MicroBatch
    from lm_offload.quant.kv_blocks import Blocks

GELU_SCALE = math.sqrt(2.0 / math.pi)


class TorchKernels(TorchExperts, TorchStates):
    """`Kernels` in torch operations.

    Torch has one pool of threads per process: constructing this class sets its size.
    """

    name = "torch"

    def __init__(self, threads: int) -> None:
        self.threads = threads
        torch.set_num_threads(threads)

    def with_threads(self, compute: int, attention: int) -> TorchKernels:
        """See `Kernels.with_threads`: torch has one number of threads for everything."""
        return TorchKernels(max(compute, attention))

    def record(self) -> None:
        """See `Kernels.record`."""

    def linear(self, x: Tensor, weight: Weight, out: Tensor, bias: Tensor | None = None) -> None:
        """See `Kernels.linear`."""
        torch_linear.linear(x, weight, out, bias)

    def linear_each(self, x: Tensor, products: Items[Product]) -> None:
        """See `Kernels.linear_each`."""
        for product in products:
            torch_linear.linear(x, *product)

    def linear_add(
        self, x: Tensor, weight: Weight, out: Tensor, bias: Tensor | None = None
    ) -> None:
        """See `Kernels.linear_add`."""
        torch_linear.linear_add(x, weight, out, bias)

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float, out: Tensor) -> None:
        """See `Kernels.rms_norm`."""
        torch.mul(_over_rms(x, eps), weight.float(), out=out)

    def rms_norm_plus_one(self, x: Tensor, weight: Tensor, eps: float, out: Tensor) -> None:
        """See `Kernels.rms_norm_plus_one`."""
        torch.mul(_over_rms(x, eps), weight.float() + 1.0, out=out)

    def bare_norm(self, x: Tensor, eps: float, out: Tensor) -> None:
        """See `Kernels.bare_norm`."""
        out.copy_(_over_rms(x, eps))

    def layer_norm(self, x: Tensor, weight: Tensor, bias: Tensor, eps: float, out: Tensor) -> None:
        """See `Kernels.layer_norm`."""
        out.copy_(functional.layer_norm(x, x.shape[-1:], weight.float(), bias.float(), eps))

    def rotary(self, x: Tensor, cos: Tensor, sin: Tensor) -> None:
        """See `Kernels.rotary`."""
        half = cos.shape[-1]
        low, high = x[..., :half].clone(), x[..., half : 2 * half].clone()
        cos, sin = cos[:, None], sin[:, None]
        torch.sub(low * cos, high * sin, out=x[..., :half])
        torch.add(high * cos, low * sin, out=x[..., half : 2 * half])

    def store_kv(self, k: Tensor, v: Tensor, keys: Blocks, values: Blocks, slots: Tensor) -> None:
        """See `Kernels.store_kv`."""
        _store(k, keys, slots)
        _store(v, values, slots)

    def attention(
        self,
        q: Tensor,
        keys: Blocks,
        values: Blocks,
        batch: MicroBatch,
        scale: float,
        out: Tensor,
        window: int | None = None,
        softcap: float | None = None,
        sinks: Tensor | None = None,
    ) -> None:
        """See `Kernels.attention`."""
        paged_attention(q, keys, values, batch, Scores(scale, window, softcap, sinks), out)

    def silu_mul(self, gate: Tensor, up: Tensor, out: Tensor) -> None:
        """See `Kernels.silu_mul`."""
        torch.mul(_silu(gate), up, out=out)

    def gelu_tanh_mul(self, gate: Tensor, up: Tensor, out: Tensor) -> None:
        """See `Kernels.gelu_tanh_mul`."""
        torch.mul(_gelu_tanh(gate), up, out=out)

    def sigmoid_mul(self, gate: Tensor, up: Tensor, out: Tensor) -> None:
        """See `Kernels.sigmoid_mul`."""
        torch.div(up, torch.exp(-gate).add_(1.0), out=out)

    def relu(self, x: Tensor) -> None:
        """See `Kernels.relu`."""
        x.relu_()

    def multiply(self, x: Tensor, y: Tensor, out: Tensor) -> None:
        """See `Kernels.multiply`."""
        torch.mul(x, y, out=out)

    def add(self, x: Tensor, out: Tensor) -> None:
        """See `Kernels.add`."""
        out.add_(x)

    def scale(self, x: Tensor, factor: Tensor) -> None:
        """See `Kernels.scale`."""
        x.mul_(factor.float())


def _store(x: Tensor, cache: Blocks, slots: Tensor) -> None:
    """Write x[T, kv_heads, head_dim] into the blocks at `slots`."""
    if isinstance(cache, PackedBlocks):
        write_tokens(cache, x, slots)
        return
    block_tokens = cache.shape[2]
    cache[slots // block_tokens, :, slots % block_tokens] = x.to(cache.dtype)


def _over_rms(x: Tensor, eps: float) -> Tensor:
    """Rows of x divided by their root mean square."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)


# Of torch's own SiLU and GELU the last bits depend on where an element lies in the tensor (vector
# or remainder), and so on the other rows; those of exp and tanh do not.


def _silu(x: Tensor) -> Tensor:
    return x / torch.exp(-x).add_(1.0)


def _gelu_tanh(x: Tensor) -> Tensor:
    cubic = (x * x * x).mul_(0.044715).add_(x)
    return cubic.mul_(GELU_SCALE).tanh_().add_(1.0).mul_(0.5).mul_(x)
