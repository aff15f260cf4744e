"""Every implementation of the operations that this machine can run, each forced."""

from __future__ import annotations

import torch
from torch import Tensor

from lm_offload.kernels.base import Kernels
from lm_offload.kernels.torch_kernels import TorchKernels

DTYPES = ("float32", "bfloat16", "float16")


def inputs_of(kernels: Kernels, x: Tensor, weight: Tensor) -> Tensor:
    """x as a product with `weight` takes it: some tables round it to bf16 for weights in bf16."""
    rounds = getattr(kernels, "rounds_inputs", False) and weight.dtype is torch.bfloat16
    return x.bfloat16().float() if rounds else x


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
