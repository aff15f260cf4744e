"""Products of many rows in bf16 through oneDNN, every other operation as another set has it.

The one place where a row's result may depend on the batch: activations and products are rounded
to bf16, the precision of the weights, for any number of rows, but oneDNN adds up in an order of
its own, so that now and then the last bit of a rounded product differs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeGuard, cast

import torch

from lm_offload.kernels.torch_linear import bf16_linear
from lm_offload.quant.packed import PackedWeight

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from torch import Tensor

    from lm_offload.kernels.base import (
        Kernels,
        Product,
        Recording,
        Weight,
        Weights,
    )
    from lm_offload.kernels.expert_table import (
        ExpertRoom,
        ExpertRows,
        ExpertTable,
        Gate,
        TabledExperts,
    )


class OneDnnKernels:
    """`Kernels` for CPUs that multiply bf16 matrices natively (AVX512-BF16, AMX).

    `inner` does everything but the products of at least `min_rows` rows with bf16 weights;
    packed weights are its own too.
    """

    def __init__(self, inner: Kernels, min_rows: int) -> None:
        self.name = f"{inner.name}+onednn-bf16"
        self.threads = inner.threads
        self.min_rows = min_rows
        self.used_torch = False
        self._inner = inner
        self.rms_norm = inner.rms_norm
        self.rms_norm_plus_one = inner.rms_norm_plus_one
        self.bare_norm = inner.bare_norm
        self.layer_norm = inner.layer_norm
        self.rotary = inner.rotary
        self.store_kv = inner.store_kv
        self.attention = inner.attention
        self.silu_mul = inner.silu_mul
        self.gelu_tanh_mul = inner.gelu_tanh_mul
        self.sigmoid_mul = inner.sigmoid_mul
        self.relu = inner.relu
        self.choose_experts = inner.choose_experts
        self.choose_close = inner.choose_close
        self.weigh_rows = inner.weigh_rows
        self.clear = inner.clear
        self.multiply = inner.multiply
        self.add = inner.add
        self.scale = inner.scale
        self.causal_convolution = inner.causal_convolution
        self.plain_convolution = inner.plain_convolution
        self.gated_delta = inner.gated_delta
        self.selective_scan = inner.selective_scan
        torch.set_num_threads(inner.threads)

    def with_threads(self, compute: int, attention: int) -> OneDnnKernels:
        """See `Kernels.with_threads`; oneDNN's products run on torch's threads."""
        return OneDnnKernels(self._inner.with_threads(compute, attention), self.min_rows)

    def record(self) -> OneDnnRecording | None:
        """See `Kernels.record`."""
        inner = self._inner.record()
        return OneDnnRecording(inner, self.min_rows) if inner else None

    def expert_table(self, experts: int, example: Weights) -> ExpertTable | None:
        """See `Kernels.expert_table`; products with bf16 weights are not asked for in tables."""
        if any(map(_is_bf16, example.values())):
            return None
        return self._inner.expert_table(experts, example)

    def add_experts(
        self, table: ExpertTable, span: range, rows: ExpertRows, gate: Gate, room: ExpertRoom
    ) -> None:
        """See `TabledExperts.add_experts`."""
        cast("TabledExperts", self._inner).add_experts(table, span, rows, gate, room)

    def linear(self, x: Tensor, weight: Weight, out: Tensor, bias: Tensor | None = None) -> None:
        """See `Kernels.linear`."""
        if not _is_bf16(weight):
            self._inner.linear(x, weight, out, bias)
            return
        self.used_torch = True
        if x.shape[0] >= self.min_rows:
            out.copy_(bf16_linear(x, weight, bias))
        else:
            self._inner.linear(_rounded(x), weight, out)
            out.copy_(_rounded(out))
            if bias is not None:
                out.add_(bias)

    def linear_each(self, x: Tensor, products: Items[Product]) -> None:
        """See `Kernels.linear_each`."""
        if not any(_is_bf16(weight) for weight, _, _ in products):
            self._inner.linear_each(x, products)
            return
        for product in products:
            self.linear(x, *product)

    def linear_add(
        self, x: Tensor, weight: Weight, out: Tensor, bias: Tensor | None = None
    ) -> None:
        """See `Kernels.linear_add`."""
        if not _is_bf16(weight):
            self._inner.linear_add(x, weight, out, bias)
            return
        product = torch.empty_like(out)
        self.linear(x, weight, product, bias)
        out.add_(product)


class OneDnnRecording:
    """A recording of what is not oneDNN's: complete where no product was."""

    def __init__(self, inner: Recording, min_rows: int) -> None:
        self.kernels = OneDnnKernels(inner.kernels, min_rows)
        self.replay = inner.replay
        self._inner = inner

    @property
    def complete(self) -> bool:
        """See `Recording.complete`."""
        return self._inner.complete and not self.kernels.used_torch


def _is_bf16(weight: Weight) -> TypeGuard[Tensor]:
    return not isinstance(weight, PackedWeight) and weight.dtype is torch.bfloat16


def _rounded(x: Tensor) -> Tensor:
    """The values of x in the precision of bf16."""
    return x.to(torch.bfloat16).float()
