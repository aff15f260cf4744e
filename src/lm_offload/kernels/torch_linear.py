"""Products with checkpoint weights in torch: converted to float32 piece by piece, in cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from lm_offload.quant.activations import round_rows, rounded_product
from lm_offload.quant.format import TILE_ROWS
from lm_offload.quant.packed import PackedWeight
from lm_offload.quant.quantize import dequantize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from lm_offload.kernels.base import Weight

# A converted piece stays in the outer caches between its conversion and its use.
PIECE_ELEMENTS = 1 << 18
# BLAS picks other kernels, with another order of summation, for fewer rows than this.
STABLE_ROWS = 16


def linear(x: Tensor, weight: Weight, out: Tensor, bias: Tensor | None) -> None:
    """out[T, N] = x[T, K] @ weight[N, K].T (+ bias[N])."""
    for columns, product in _products(x, weight, bias):
        out[:, columns] = product


def linear_add(x: Tensor, weight: Weight, out: Tensor, bias: Tensor | None) -> None:
    """out[T, N] += x[T, K] @ weight[N, K].T (+ bias[N])."""
    for columns, product in _products(x, weight, bias):
        out[:, columns] += product


def bf16_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x[T, K] @ weight[N, K].T (+ bias[N]) with bf16 operands and result, as [T, N] float32.

    Only worth it on CPUs with a bf16 dot product; see `has_bf16_units`.
    """
    product = functional.linear(x.to(torch.bfloat16), weight).float()
    return product if bias is None else product.add_(bias)


def has_bf16_units() -> bool:
    """Whether this CPU multiplies in bf16 (AVX512-BF16 or AMX)."""
    return bool(_capabilities().get("avx512_bf16")) or has_bf16_tiles()


def has_bf16_tiles() -> bool:
    """Whether this CPU has matrix units for bf16 (AMX)."""
    return bool(_capabilities().get("amx_bf16"))


def _capabilities() -> dict[str, object]:
    found: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return found


def piece_rows(width: int) -> int:
    """Rows of a weight [N, width] that are converted at a time: whole tiles of a packed one."""
    return max(1, PIECE_ELEMENTS // max(1, width) // TILE_ROWS) * TILE_ROWS


def _products(x: Tensor, weight: Weight, bias: Tensor | None) -> Iterator[tuple[slice, Tensor]]:
    """The columns of x @ weight.T (+ bias), piece by piece of the weight's rows."""
    width, multiply = x.shape[1], _multiplier(x, weight)
    step = piece_rows(width)
    for start in range(0, weight.shape[0], step):
        columns = slice(start, min(start + step, weight.shape[0]))
        product = multiply(columns)
        yield columns, product if bias is None else product.add_(bias[columns])


def _multiplier(x: Tensor, weight: Weight) -> Callable[[slice], Tensor]:
    """x times some rows of the weight, whole tiles where it is packed."""
    if isinstance(weight, PackedWeight) and weight.format.int8_activations:
        rounded = round_rows(x)
        return lambda rows: rounded_product(rounded, _packed_rows(weight, rows))
    count = x.shape[0]
    padded = functional.pad(x, (0, 0, 0, max(0, STABLE_ROWS - count)))
    return lambda rows: (padded @ _float_rows(weight, rows).T)[:count]


def _float_rows(weight: Weight, rows: slice) -> Tensor:
    """Some rows of a weight in float32."""
    if isinstance(weight, PackedWeight):
        return dequantize(_packed_rows(weight, rows))
    return weight[rows].float()


def _packed_rows(weight: PackedWeight, rows: slice) -> PackedWeight:
    """Some rows of a packed weight."""
    size_bytes, width = weight.format.matrix_bytes, weight.shape[1]
    data = weight.data[size_bytes(rows.start, width) : size_bytes(rows.stop, width)]
    return PackedWeight(data, weight.format, (rows.stop - rows.start, width))
