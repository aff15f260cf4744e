"""Products of many rows in bf16 through oneDNN, every other operation as another set has it.

The one place where a row's result may depend on the batch: from `min_rows` rows on, the
activations are rounded to bf16, the precision of the weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from lm_offload.kernels.torch_linear import bf16_linear

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.kernels.base import Kernels


class OneDnnKernels:
    """`Kernels` for CPUs that multiply bf16 matrices natively (AVX512-BF16, AMX).

    `inner` does everything but the products of at least `min_rows` rows with bf16 weights.
    """

    def __init__(self, inner: Kernels, min_rows: int) -> None:
        self.name = f"{inner.name}+onednn-bf16"
        self.threads = inner.threads
        self.min_rows = min_rows
        self._inner = inner
        self.rms_norm = inner.rms_norm
        self.rms_norm_plus_one = inner.rms_norm_plus_one
        self.layer_norm = inner.layer_norm
        self.rotary = inner.rotary
        self.store_kv = inner.store_kv
        self.attention = inner.attention
        self.silu_mul = inner.silu_mul
        self.gelu_tanh_mul = inner.gelu_tanh_mul
        self.relu = inner.relu
        torch.set_num_threads(inner.threads)

    def linear(self, x: Tensor, weight: Tensor, out: Tensor, bias: Tensor | None = None) -> None:
        """See `Kernels.linear`."""
        if self._in_bf16(x, weight):
            out.copy_(bf16_linear(x, weight, bias))
        else:
            self._inner.linear(x, weight, out, bias)

    def linear_add(
        self, x: Tensor, weight: Tensor, out: Tensor, bias: Tensor | None = None
    ) -> None:
        """See `Kernels.linear_add`."""
        if self._in_bf16(x, weight):
            out.add_(bf16_linear(x, weight, bias))
        else:
            self._inner.linear_add(x, weight, out, bias)

    def _in_bf16(self, x: Tensor, weight: Tensor) -> bool:
        return weight.dtype is torch.bfloat16 and x.shape[0] >= self.min_rows
