"""What native code is told of a tensor: its address, strides and sizes, after checking them.

These run about a thousand times per sweep: each property of a tensor is asked for once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import torch

from lm_offload.kernels import _native
from lm_offload.quant.columns import COLUMN_STEP
from lm_offload.quant.format import CODE_BITS
from lm_offload.quant.packed import PackedWeight

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.kernels.base import Weight
    from lm_offload.quant.format import Format

DTYPE_CODES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}


def rows(x: Tensor) -> tuple[int, int, int, int]:
    """Address, row stride, rows and width of activations [rows, width]."""
    count, width = x.shape
    stride, step = x.stride()
    if x.dtype is not torch.float32 or (step != 1 and width > 1) or not x.is_cpu:
        refuse("float32 rows with a contiguous last dimension", x)
    return x.data_ptr(), stride, count, width


def rows_to_rows(x: Tensor, out: Tensor) -> tuple[int, int, int, int, int, int]:
    """Addresses and row strides of an input and an output [rows, width], then rows and width."""
    at, stride, count, width = rows(x)
    out_at, out_stride, out_count, out_width = rows(out)
    if count != out_count or width != out_width:
        refuse("an output of the input's shape", x, out)
    return at, stride, out_at, out_stride, count, width


def heads(x: Tensor) -> tuple[int, int, int, int, int, int]:
    """Address, row and head stride, rows, heads and head size of activations [rows, heads, dim]."""
    count, head_count, width = x.shape
    stride, head_stride, step = x.stride()
    if x.dtype is not torch.float32 or (step != 1 and width > 1) or not x.is_cpu:
        refuse("float32 heads with a contiguous last dimension", x)
    return x.data_ptr(), stride, head_stride, count, head_count, width


def product(
    x: Tensor, m: int, k: int, weight: Weight, out: Tensor, bias: Tensor | None
) -> _native.Product:
    """What a product writes into out[m, N] of weight[N, k] and bias[N]."""
    weight_at, weight_stride, code, n, depth = weights(weight)
    out_at, out_stride, count, width = rows(out)
    if count != m or width != n or k != depth or k == 0:
        refuse("x[T, K], weight[N, K] and out[T, N] with K > 0", x, weight, out)
    bias_at, bias_code = (0, 0) if bias is None else vector(bias, n)
    return weight_at, weight_stride, code, n, bias_at, bias_code, out_at, out_stride


def weights(weight: Weight) -> tuple[int, int, int, int, int]:
    """Address, row stride, dtype code, rows and width of a weight [rows, width].

    Stride and code are 0 where it is packed.
    """
    count, width = weight.shape
    if isinstance(weight, PackedWeight):
        return packed_bytes(weight), 0, 0, count, width
    stride, step = weight.stride()
    code = DTYPE_CODES.get(weight.dtype)
    if code is None or (step != 1 and width > 1) or not weight.is_cpu:
        refuse("a float32, bfloat16 or float16 matrix with contiguous rows", weight)
    return weight.data_ptr(), stride, code, count, width


def packing(weight: PackedWeight) -> tuple[int, int, bool, bool, int]:
    """Bits of a code, columns of a group, symmetry, whether codes are floats, bits of inputs."""
    format, width = weight.format, weight.shape[1]
    bits, group = CODE_BITS.get(format.name), format.group_size or width
    whole_groups = not width % COLUMN_STEP and not width % max(group, 1)
    if bits is None or not whole_groups or (bits == 8 and not format.symmetric):
        wanted = f"packed weights of whole groups, not {format} of {list(weight.shape)}"
        refuse(wanted, weight.data)
    return bits, group, format.symmetric, format.has_float_codes, _input_bits(format)


def _input_bits(format: Format) -> int:
    """To how many bits inputs are rounded; 32 is not at all."""
    if format.name == "fp8":
        return 32
    return 8 if format.int8_activations else 16


def packed_bytes(weight: PackedWeight) -> int:
    """Address of the bytes of packed weights, which are all there."""
    (count, width), data = weight.shape, weight.data
    size_bytes = weight.format.matrix_bytes(count, width)
    complete = data.dtype is torch.uint8 and data.shape == (size_bytes,)
    if not complete or not data.is_contiguous() or not data.is_cpu:
        refuse(f"{size_bytes} contiguous bytes for {weight.format} of {count} x {width}", data)
    return data.data_ptr()


def vector(weight: Tensor, width: int) -> tuple[int, int]:
    """Address and dtype code of a weight or bias [width]."""
    code = DTYPE_CODES.get(weight.dtype)
    if code is None or weight.shape != (width,) or not weight.is_contiguous() or not weight.is_cpu:
        refuse(f"{width} contiguous float32, bfloat16 or float16 values", weight)
    return weight.data_ptr(), code


def indices(x: Tensor, dtype: torch.dtype, count: int) -> int:
    """Address of `count` contiguous integers."""
    if x.dtype is not dtype or x.shape != (count,) or not x.is_contiguous() or not x.is_cpu:
        refuse(f"{count} contiguous integers of type {dtype}", x)
    return x.data_ptr()


def refuse(wanted: str, *given: Weight) -> NoReturn:
    """Raise ValueError: what is allowed and what was given."""
    found = ", ".join(_described(x) for x in given)
    raise ValueError(f"A native kernel takes {wanted}, but was given {found}.")


def _described(x: Weight) -> str:
    if isinstance(x, PackedWeight):
        return f"{x.format} {list(x.shape)}"
    return f"{x.dtype} {list(x.shape)} with strides {x.stride()}"
