"""Which implementation of the operations runs on this machine; decided once, reported by name."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from lm_offload.kernels.onednn_kernels import OneDnnKernels
from lm_offload.kernels.torch_kernels import TorchKernels
from lm_offload.kernels.torch_linear import has_bf16_tiles, has_bf16_units
from lm_offload.quant.quantize import quantize

if TYPE_CHECKING:
    from lm_offload.kernels.base import Kernels
    from lm_offload.quant.quantize import Quantize

log = logging.getLogger(__name__)

# Rows from which a bf16 product of oneDNN beats the products it replaces. Without AMX it
# does not beat the native ones on all cores: 0.55 to 0.93 of their speed on AVX512-BF16.
ONEDNN_ROWS_OVER_NATIVE = 32
ONEDNN_ROWS_OVER_TORCH = 8


def resolve_kernels(threads: int) -> Kernels:
    """The fastest operations of this machine, computing with `threads` threads."""
    kernels = _native_or_torch(threads)
    if isinstance(kernels, TorchKernels):
        return OneDnnKernels(kernels, ONEDNN_ROWS_OVER_TORCH) if has_bf16_units() else kernels
    return OneDnnKernels(kernels, ONEDNN_ROWS_OVER_NATIVE) if has_bf16_tiles() else kernels


def resolve_quantize(threads: int = 1) -> Quantize:
    """The fastest way to round weights, each call on `threads` threads where it is native."""
    try:
        from lm_offload.kernels import _native
        from lm_offload.kernels.native_quantize import quantize_natively
    except ImportError:
        return quantize
    return partial(quantize_natively, _native.best_operations(), threads)


def _native_or_torch(threads: int) -> Kernels:
    try:
        from lm_offload.kernels import _native
        from lm_offload.kernels.native_kernels import NativeKernels
    except ImportError as error:
        log.warning(
            "Native kernels are not built (%s): plain torch runs instead, about 2 to 6 times "
            "slower with bf16 weights; reinstall with a C++17 compiler to get them.",
            error,
        )
        return TorchKernels(threads)
    kernels = NativeKernels(threads)
    for name in _native.rejected_operations():
        log.warning(
            "The kernels for %s give wrong results on this processor: slower ones (%s) run "
            "instead; please report the processor's name.",
            name,
            kernels.name,
        )
    return kernels
