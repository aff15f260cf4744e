"""The operations in Triton where the GPU gains by it, and as torch has them elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lm_offload.kernels import triton_rows
from lm_offload.kernels.torch_attention import Scores
from lm_offload.kernels.triton_attention import paged_attention
from lm_offload.kernels.triton_dequantize import dequantized_product
from lm_offload.kernels.triton_product import packed_product
from lm_offload.kernels.triton_store import store_tokens
from lm_offload.quant.packed import PackedWeight

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from torch import Tensor

    from lm_offload.kernels.base import Kernels, Product, Weight
    from lm_offload.micro_batch import MicroBatch
    from lm_offload.quant.kv_blocks import Blocks

FEW_ROWS = 64  # up to which a packed weight is multiplied as it is, where nothing was measured


class TritonKernels:
    """`Kernels` of a GPU in its current stream; `torch` does products with floats, and the rest.

    Products of up to `few_rows` rows with packed weights read codes, those of more rows turn a
    piece of the weight into fp16 for BLAS.
    """

    name = "triton"
    threads = 1

    def __init__(self, torch: Kernels, few_rows: int = FEW_ROWS) -> None:
        self.few_rows = few_rows
        self._torch = torch
        self.bare_norm = torch.bare_norm
        self.layer_norm = torch.layer_norm
        self.silu_mul = torch.silu_mul
        self.gelu_tanh_mul = torch.gelu_tanh_mul
        self.sigmoid_mul = torch.sigmoid_mul
        self.relu = torch.relu
        self.choose_experts = torch.choose_experts
        self.choose_close = torch.choose_close
        self.expert_table = torch.expert_table
        self.weigh_rows = torch.weigh_rows
        self.clear = torch.clear
        self.multiply = torch.multiply
        self.add = torch.add
        self.scale = torch.scale
        self.causal_convolution = torch.causal_convolution
        self.plain_convolution = torch.plain_convolution
        self.gated_delta = torch.gated_delta
        self.selective_scan = torch.selective_scan

    def with_threads(self, compute: int, attention: int) -> TritonKernels:
        """See `Kernels.with_threads`: a GPU's threads are its own."""
        return self

    def switched_at(self, rows: int) -> TritonKernels:
        """See `SwitchedProducts.switched_at`."""
        return TritonKernels(self._torch, rows)

    def record(self) -> None:
        """See `Kernels.record`."""

    def linear(self, x: Tensor, weight: Weight, out: Tensor, bias: Tensor | None = None) -> None:
        """See `Kernels.linear`."""
        if isinstance(weight, PackedWeight):
            self._packed(x, weight, out, bias, add=False)
        else:
            self._torch.linear(x, weight, out, bias)

    def linear_each(self, x: Tensor, products: Items[Product]) -> None:
        """See `Kernels.linear_each`."""
        for product in products:
            self.linear(x, *product)

    def linear_add(
        self, x: Tensor, weight: Weight, out: Tensor, bias: Tensor | None = None
    ) -> None:
        """See `Kernels.linear_add`."""
        if isinstance(weight, PackedWeight):
            self._packed(x, weight, out, bias, add=True)
        else:
            self._torch.linear_add(x, weight, out, bias)

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float, out: Tensor) -> None:
        """See `Kernels.rms_norm`."""
        triton_rows.rms_norm(x, weight, eps, 0.0, out)

    def rms_norm_plus_one(self, x: Tensor, weight: Tensor, eps: float, out: Tensor) -> None:
        """See `Kernels.rms_norm_plus_one`."""
        triton_rows.rms_norm(x, weight, eps, 1.0, out)

    def rotary(self, x: Tensor, cos: Tensor, sin: Tensor) -> None:
        """See `Kernels.rotary`."""
        triton_rows.rotary(x, cos, sin)

    def store_kv(self, k: Tensor, v: Tensor, keys: Blocks, values: Blocks, slots: Tensor) -> None:
        """See `Kernels.store_kv`."""
        store_tokens(k, keys, slots)
        store_tokens(v, values, slots)

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
        """See `Kernels.attention`; models with sinks do not come here."""
        if sinks is not None:
            raise NotImplementedError("attention sinks on a GPU")
        paged_attention(q, keys, values, batch, Scores(scale, window, softcap), out)

    def _packed(
        self, x: Tensor, weight: PackedWeight, out: Tensor, bias: Tensor | None, add: bool
    ) -> None:
        product = packed_product if x.shape[0] <= self.few_rows else dequantized_product
        product(x, weight, out, bias, add)
