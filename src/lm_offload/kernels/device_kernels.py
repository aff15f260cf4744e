"""The operations on a device's own memory: plain torch, products in the dtype of the weights.

A product of floats is one call of the device's BLAS: it sums in float32, its operands and its
result are rounded to the dtype of the weights. Logits agree with those of the CPU within that
rounding, and a row may differ by it between batches of different sizes. A packed matrix is turned
into float32, a few million weights at a time, and multiplied without rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional

from lm_offload.kernels.scratch import PIECE_ELEMENTS
from lm_offload.kernels.torch_kernels import TorchKernels
from lm_offload.quant.format import TILE_ROWS
from lm_offload.quant.packed import PackedWeight
from lm_offload.quant.quantize import dequantize

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from lm_offload.kernels.base import Weight


class DeviceKernels(TorchKernels):
    """`Kernels` in torch operations wherever the tensors are; sets no threads."""

    name = "torch-device"

    def __init__(self) -> None:
        self.threads = 1

    def linear(self, x: Tensor, weight: Weight, out: Tensor, bias: Tensor | None = None) -> None:
        """See `Kernels.linear`."""
        for columns, product in _products(x, weight):
            out[:, columns] = product
        if bias is not None:
            out += bias

    def linear_add(
        self, x: Tensor, weight: Weight, out: Tensor, bias: Tensor | None = None
    ) -> None:
        """See `Kernels.linear_add`."""
        for columns, product in _products(x, weight):
            out[:, columns] += product
        if bias is not None:
            out += bias


def piece_rows(width: int) -> int:
    """Rows of a packed weight [N, width] that are floats at a time: whole tiles."""
    return max(PIECE_ELEMENTS // width // TILE_ROWS, 1) * TILE_ROWS


def _products(x: Tensor, weight: Weight) -> Iterator[tuple[slice, Tensor]]:
    """The columns of x[T, K] @ weight[N, K].T, in one piece where the weight is not packed."""
    if not isinstance(weight, PackedWeight):
        yield slice(None), functional.linear(x.to(weight.dtype), weight)
        return
    count, width = weight.shape
    for start in range(0, count, piece_rows(width)):
        rows = slice(start, min(start + piece_rows(width), count))
        yield rows, x @ _floats(weight, rows).T


def _floats(weight: PackedWeight, rows: slice) -> Tensor:
    """Some rows of a packed weight, whole tiles, in float32."""
    size_bytes, width = weight.format.matrix_bytes, weight.shape[1]
    data = weight.data[size_bytes(rows.start, width) : size_bytes(rows.stop, width)]
    return dequantize(PackedWeight(data, weight.format, (rows.stop - rows.start, width)))
