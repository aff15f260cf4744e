"""Rounding weights to packed formats in native code, to the bits of the reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from lm_offload.kernels.native_arguments import DTYPE_CODES
from lm_offload.quant.columns import check_columns
from lm_offload.quant.format import CODE_BITS
from lm_offload.quant.packed import PackedWeight
from lm_offload.quant.quantize import quantize

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.kernels import _native
    from lm_offload.quant.format import Format


def quantize_natively(
    operations: _native.Operations, threads: int, weight: Tensor, format: Format, name: str
) -> PackedWeight:
    """See `quant.quantize.quantize`; what native code does not know goes there.

    So do weights that are not finite, or too large, which are refused in its words.
    """
    rows, columns = weight.shape
    check_columns(format, columns, name)
    known = weight.dtype in DTYPE_CODES and weight.is_cpu and weight.stride(1) == 1
    if not known or format.name == "mxfp4" or not rows:
        return quantize(weight, format, name)
    data = torch.empty(format.matrix_bytes(rows, columns), dtype=torch.uint8)
    finite = operations.quantize(
        weight.data_ptr(),
        DTYPE_CODES[weight.dtype],
        weight.stride(0),
        CODE_BITS[format.name],
        format.group_size or columns,
        format.symmetric,
        format.has_float_codes,
        data.data_ptr(),
        rows,
        columns,
        threads,
    )
    return PackedWeight(data, format, (rows, columns)) if finite else quantize(weight, format, name)
