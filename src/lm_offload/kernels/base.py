"""The signature of every compute operation; each implementation is a class with these methods.

Activations are float32. Weights keep the dtype of the checkpoint (float32, bfloat16 or
float16) or are packed (quant/packing.py), and are read where they lie: an implementation
converts in registers or a piece at a time in cache, never in memory.
Every tensor has a contiguous last dimension; activations may have any row stride, so that a
part of a fused projection is a view. Results go into `out`, which the caller owns.

One rule binds all implementations: a row's result does not depend, to the bit, on how many
other rows are computed with it, on the chunks a prompt is cut into, nor on the number of
threads. It is what makes the text independent of batch composition and budget. The exception is
named in onednn_kernels.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from lm_offload.kernels.expert_kernels import ExpertKernels
from lm_offload.kernels.state_kernels import StateKernels

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Sequence as Items
    from typing import Any

    from torch import Tensor

    from lm_offload.micro_batch import MicroBatch
    from lm_offload.quant.kv_blocks import Blocks
    from lm_offload.quant.packed import PackedWeight

    Weight = Tensor | PackedWeight  # a matrix [N, K]; both have a `shape`
    Weights = Mapping[str, Any]  # of a unit by role
    Product = tuple[Weight, Tensor, Tensor | None]  # weight, out and bias


class Recording(Protocol):
    """Operations that were carried out once and can be again, on the same memory."""

    @property
    def kernels(self) -> Kernels:
        """Carries out what it is asked for, and writes it down."""

    @property
    def complete(self) -> bool:
        """Whether all that was asked for could be written down."""

    def replay(self, weights_shift: int, cache_shift: int) -> None:
        """The same operations in the same order, on what now lies in the same tensors.

        Those tensors must still be where they were, but all weights, and keys and values, may lie
        so many bytes further.
        """


class Kernels(ExpertKernels, StateKernels, Protocol):
    """The operations that the models are written in."""

    name: str  # what was resolved, for reports: "native-avx2", "torch"
    threads: int  # most of a call

    def with_threads(self, compute: int, attention: int) -> Kernels:
        """The same operations on so many threads; where torch computes, it has one pool."""

    def record(self) -> Recording | None:
        """A new recording of these operations; None where calls cannot be written down."""

    def linear(self, x: Tensor, weight: Weight, out: Tensor, bias: Tensor | None = None) -> None:
        """out[T, N] = x[T, K] @ weight[N, K].T (+ bias[N])."""

    def linear_each(self, x: Tensor, products: Items[Product]) -> None:
        """`linear` of one input with each of a few weights, as one run where that is faster."""

    def linear_add(
        self, x: Tensor, weight: Weight, out: Tensor, bias: Tensor | None = None
    ) -> None:
        """out[T, N] += x[T, K] @ weight[N, K].T (+ bias[N])."""

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float, out: Tensor) -> None:
        """out[T, H] = x / rms(x) * weight[H]; `out` may be `x`."""

    def rms_norm_plus_one(self, x: Tensor, weight: Tensor, eps: float, out: Tensor) -> None:
        """out[T, H] = x / rms(x) * (1 + weight[H]), as Gemma stores scales; `out` may be `x`."""

    def bare_norm(self, x: Tensor, eps: float, out: Tensor) -> None:
        """out[T, H] = x / rms(x); `out` may be `x`."""

    def layer_norm(self, x: Tensor, weight: Tensor, bias: Tensor, eps: float, out: Tensor) -> None:
        """out[T, H] = (x - mean) / std * weight[H] + bias[H]; `out` may be `x`."""

    def rotary(self, x: Tensor, cos: Tensor, sin: Tensor) -> None:
        """Rotate x[T, heads, head_dim] in place by the half-split convention of Hugging Face.

        cos, sin [T, r / 2]: the first r values of each head are rotated, the rest stay.
        """

    def store_kv(self, k: Tensor, v: Tensor, keys: Blocks, values: Blocks, slots: Tensor) -> None:
        """Write k, v [T, kv_heads, head_dim] into the cache blocks at `slots`.

        keys, values [blocks, kv_heads, block_tokens, head_dim], in the cache's own dtype or
        rounded to its format (quant/kv.py).
        """

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
        """Causal attention of q[T, heads, head_dim] over the paged cache into `out`, shaped as q.

        K and V of the rows themselves are already in the cache. A row at position p sees
        positions max(0, p - window + 1) to p. heads is a multiple of kv_heads. Scores are
        softcap * tanh(score / softcap) where a softcap is given. sinks [heads], of any float
        dtype, are scores of nothing: the softmax counts one of them for each row and head. A
        score that is NaN makes its row NaN; a sequence without rows is left alone.
        """

    def silu_mul(self, gate: Tensor, up: Tensor, out: Tensor) -> None:
        """out[T, I] = silu(gate) * up; `out` may be `gate`."""

    def gelu_tanh_mul(self, gate: Tensor, up: Tensor, out: Tensor) -> None:
        """out[T, I] = gelu(gate, tanh form) * up; `out` may be `gate`."""

    def sigmoid_mul(self, gate: Tensor, up: Tensor, out: Tensor) -> None:
        """out[T, I] = sigmoid(gate) * up; `out` may be `gate` or `up`."""

    def relu(self, x: Tensor) -> None:
        """x[T, I] = max(x, 0) in place."""

    def multiply(self, x: Tensor, y: Tensor, out: Tensor) -> None:
        """out[T, H] = x * y; `out` may be `x` or `y`."""

    def add(self, x: Tensor, out: Tensor) -> None:
        """out[T, H] += x."""

    def scale(self, x: Tensor, factor: Tensor) -> None:
        """x[T, H] *= factor[1], a weight of any float dtype, in place."""


@runtime_checkable
class SwitchedProducts(Protocol):
    """Kernels with two ways to multiply by a packed weight: as it is, and turned into floats."""

    few_rows: int  # up to which it is multiplied as it is

    def switched_at(self, rows: int) -> Kernels:
        """The same operations with another switch; 0 always turns weights into floats."""
