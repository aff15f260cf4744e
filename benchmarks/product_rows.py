"""Products with weights in every format, beside torch's own; the weights come from memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.kernel_timing import STREAMED_BYTES, Ceilings, median_s
from lm_offload.kernels.base import Kernels
from lm_offload.quant.format import parse_format
from lm_offload.quant.packed import PackedWeight
from lm_offload.quant.quantize import quantize

N, K = 5632, 2048  # the gate projection of the 1.1 B model
ROWS = (1, 4, 16, 64, 128, 256, 512)
FORMATS = ("bf16", "int8:row", "int8:64", "int4:64", "int8:64:a8", "int4:64:a8")
TORCH_GROUP = 64


@dataclass(frozen=True)
class ProductResult:
    """The time of x[m, K] @ weight[N, K].T, and how many times faster it is than the others.

    Bytes are those of the weight as it is stored; None where torch has no such product.
    """

    operation: str
    format: str
    m: int
    time_s: float
    gbytes_per_s: float
    read_frac: float
    gflops_per_s: float
    over_own_bf16: float
    over_torch_bf16: float
    over_torch_int4: float | None


@dataclass(frozen=True)
class Contender:
    """A product with the weights of one format; `run(x, weight, out)` for each weight in turn."""

    weights: list[Tensor] | list[PackedWeight]
    weight_bytes: int
    run: Callable[..., object]

    def time_s(self, m: int, budget_s: float) -> float:
        """The median time with m rows."""
        x, out = torch.randn(m, K), torch.empty(m, N)
        return median_s([partial(self.run, x, each, out) for each in self.weights], budget_s)


def product_rows(kernels: Kernels, ceilings: Ceilings, budget_s: float) -> Iterator[ProductResult]:
    """Every format and number of rows, next to the same product by torch."""
    own = {name: own_product(kernels, name) for name in FORMATS}
    torch_bf16, torch_int4 = _torch_bf16(), _torch_int4()
    for m in ROWS:
        times = {name: each.time_s(m, budget_s) for name, each in own.items()}
        bf16_s = torch_bf16.time_s(m, budget_s)
        int4_s = torch_int4.time_s(m, budget_s) if torch_int4 else None
        for name, time_s in times.items():
            rate = own[name].weight_bytes / time_s
            yield ProductResult(
                "linear", name, m, time_s, rate / 1e9, rate / ceilings.read_bytes_per_s,
                2 * m * N * K / time_s / 1e9, times["bf16"] / time_s, bf16_s / time_s,
                int4_s / time_s if int4_s else None,
            )  # fmt: skip


def own_product(kernels: Kernels, name: str) -> Contender:
    """Our product with the weights of a format."""
    format, weight = parse_format(name), torch.randn(N, K)
    size_bytes = format.matrix_bytes(N, K)
    if not format.is_packed:
        return Contender(_copies(weight.bfloat16()), size_bytes, kernels.linear)
    packed = quantize(weight, format, "weight")
    weights = [PackedWeight(data, format, (N, K)) for data in _copies(packed.data)]
    return Contender(weights, size_bytes, kernels.linear)


def _torch_bf16() -> Contender:
    weights = _copies(torch.randn(N, K).bfloat16())
    return Contender(weights, weights[0].nbytes, _torch_linear)


def _torch_linear(x: Tensor, weight: Tensor, out: Tensor) -> None:
    out.copy_(functional.linear(x.bfloat16(), weight))


def _torch_int4() -> Contender | None:
    """Torch's own int4 product with groups of 64; None where this build has none."""
    codes = torch.randint(0, 16, (N, K), dtype=torch.int32)
    factors = torch.randn(K // TORCH_GROUP, N, 2).bfloat16()
    product = torch.ops.aten._weight_int4pack_mm_for_cpu

    def run(x: Tensor, weight: Tensor, out: Tensor) -> None:
        out.copy_(product(x.bfloat16(), weight, TORCH_GROUP, factors))

    try:
        packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, 1)
        run(torch.zeros(1, K), packed, torch.empty(1, N))
    except (RuntimeError, NotImplementedError):
        return None
    return Contender(_copies(packed), packed.nbytes + factors.nbytes, run)


def _copies(weight: Tensor) -> list[Tensor]:
    """As many of them as no cache holds."""
    return [weight.clone() for _ in range(max(2, STREAMED_BYTES // weight.nbytes))]
