"""Every implementation of the operations that this machine can run, each forced."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lm_offload.kernels.base import Kernels
from lm_offload.kernels.torch_kernels import TorchKernels
from lm_offload.quant.packed import PackedWeight

if TYPE_CHECKING:
    from lm_offload.kernels.base import Weight

DTYPES = ("float32", "bfloat16", "float16")


def inputs_of(kernels: Kernels, x: Tensor, weight: Weight) -> Tensor:
    """x as a product takes it: some tables round it to bf16 for weights in bf16 and fp8."""
    packed = isinstance(weight, PackedWeight)
    short = weight.format.name == "fp8" if packed else weight.dtype is torch.bfloat16
    return x.bfloat16().float() if short and rounds_inputs(kernels) else x


def rounds_inputs(kernels: Kernels) -> bool:
    """Whether products with weights in bf16 and fp8 round their inputs to bf16."""
    return getattr(kernels, "rounds_inputs", False)


def native_kernels(threads: int) -> list[Kernels]:
    """The native implementations, where the extension is built."""
    try:
        from lm_offload.kernels import _native
        from lm_offload.kernels.native_kernels import NativeKernels
    except ImportError:
        return []
    return [NativeKernels(threads, table) for table in _native.all_operations()]


def all_kernels(threads: int = 1) -> list[Kernels]:
    """Native ones first, torch last."""
    return [*native_kernels(threads), TorchKernels(threads)]
