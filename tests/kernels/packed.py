"""Random packed weights, and the product that they stand for."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from lm_offload.kernels.base import Kernels
from lm_offload.quant.format import parse_format
from lm_offload.quant.packed import PackedWeight
from lm_offload.quant.packing import Codes, pack
from lm_offload.quant.quantize import dequantize

ALL_FORMATS = (
    *("int8:row", "int8:32", "int8:64", "int8:128", "int4:32", "int4:64", "int4:128"),
    *("int4:32:sym", "int4:64:sym", "int4:128:sym"),
    *("fp8:row", "fp8:32", "fp8:64", "fp8:128"),
    "mxfp4",
)
ROUNDED_FORMATS = (  # that round activations to 8 bits
    *("int8:row:a8", "int8:32:a8", "int8:64:a8", "int4:32:a8", "int4:64:a8", "int4:128:a8"),
    *("int4:32:sym:a8", "int4:64:sym:a8", "int4:128:sym:a8"),
)


def random_weight(name: str, rows: int, columns: int) -> PackedWeight:
    """Every code is as likely as any other, the extremes included."""
    format = parse_format(name)
    groups = columns // (format.group_size or columns)
    if format.name == "mxfp4":
        return pack(random_float4(rows, columns), format)
    if format.name == "fp8":
        return pack(Codes(random_float8(rows, columns), torch.rand(rows, groups), None), format)
    int8 = format.name == "int8"
    low, high, dtype = (-127, 128, torch.int8) if int8 else (0, 16, torch.uint8)
    values = torch.randint(low, high, (rows, columns), dtype=dtype)
    scales = torch.rand(rows, groups).half()
    minimums = None if format.symmetric else (-8 * torch.rand(rows, groups)).half()
    return pack(Codes(values, scales, minimums), format)


def random_float8(rows: int, columns: int) -> Tensor:
    """All e4m3 floats but NaN, subnormal ones and both zeros among them."""
    bits = torch.randint(0, 127, (rows, columns)) | torch.randint(0, 2, (rows, columns)) << 7
    return bits.to(torch.uint8).view(torch.float8_e4m3fn)


def random_float4(rows: int, columns: int) -> Codes:
    """All e2m1 floats, and powers of two from 2^-10 to 1."""
    values = torch.randint(0, 16, (rows, columns), dtype=torch.uint8)
    powers = torch.randint(117, 128, (rows, columns // 32), dtype=torch.uint8)
    return Codes(values, powers.view(torch.float8_e8m0fnu), None)


def product(kernels: Kernels, x: Tensor, weight: PackedWeight) -> Tensor:
    """What the kernels make of it, in memory of its own."""
    out = torch.empty(x.shape[0], weight.shape[0])
    kernels.linear(x, weight, out)
    return out


def exact_product(x: Tensor, weight: PackedWeight) -> tuple[Tensor, Tensor]:
    """x @ weight.T in float64, and how far from it a result may be.

    That is a rounding of inputs to 16 bits, or 8, by blocks of 64 columns, and of sums to float32;
    of sums alone where codes are floats.
    """
    most = 127 if weight.format.int8_activations else 32767
    if weight.format.name == "fp8":
        most = torch.inf
    values, inputs = dequantize(weight).double(), x.double()
    blocks = functional.pad(inputs, (0, -x.shape[1] % 64)).abs().unflatten(1, (-1, 64))
    steps = blocks.amax(2, keepdim=True).expand_as(blocks).flatten(1)[:, : x.shape[1]] / most
    rounding = 0.51 * steps @ values.abs().T
    sums = inputs.abs().sum(1, keepdim=True) * values.abs().amax(1)
    return inputs @ values.T, rounding + 2e-6 * sums
