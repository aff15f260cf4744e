"""Products with checkpoint weights in torch: converted to float32 piece by piece, in cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

# A converted piece stays in the outer caches between its conversion and its use.
PIECE_ELEMENTS = 1 << 18
# BLAS picks other kernels, with another order of summation, for fewer rows than this.
STABLE_ROWS = 16


def linear(x: Tensor, weight: Tensor, out: Tensor, bias: Tensor | None) -> None:
    """out[T, N] = x[T, K] @ weight[N, K].T (+ bias[N])."""
    for columns, product in _products(x, weight, bias):
        out[:, columns] = product


def linear_add(x: Tensor, weight: Tensor, out: Tensor, bias: Tensor | None) -> None:
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
    """Whether this CPU multiplies bf16 matrices natively (AVX512-BF16 or AMX)."""
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def _products(x: Tensor, weight: Tensor, bias: Tensor | None) -> Iterator[tuple[slice, Tensor]]:
    """The columns of x @ weight.T (+ bias), piece by piece of the weight's rows."""
    rows, width = x.shape
    padded = functional.pad(x, (0, 0, 0, max(0, STABLE_ROWS - rows)))
    step = max(1, PIECE_ELEMENTS // max(1, width))
    for start in range(0, weight.shape[0], step):
        columns = slice(start, start + step)
        product = (padded @ weight[columns].float().T)[:rows]
        yield columns, product if bias is None else product.add_(bias[columns])
