"""Products with weights in every format, beside torch's own; the weights come from memory."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.kernel_timing import (
    Reading,
    Seconds,
    Work,
    median_s,
    on_each,
    rounds_s,
    settled,
    streamed_copies,
)
from benchmarks.round_ratio import quotients, with_interval
from lm_offload.kernels.base import Kernels
from lm_offload.quant.format import parse_format
from lm_offload.quant.packed import PackedWeight
from lm_offload.quant.quantize import quantize

N, K = 5632, 2048  # the gate projection of the 1.1 B model
ROWS = (1, 4, 16, 64, 128, 256, 512)
FORMATS = ("bf16", "int8:row", "int8:64", "int4:64", "fp8:row", "int8:64:a8", "int4:64:a8")
TORCH_GROUP = 64
Row = dict[str, Any]


@dataclass(frozen=True)
class Contender:
    """A product with the weights of one format; `run(x, weight, out)` for each weight in turn.

    `memory` holds all of them, for reading as many bytes of it as a product does.
    """

    memory: Tensor
    weights: Sequence[Tensor | PackedWeight]
    weight_bytes: int
    run: Callable[..., object]

    def work(self, m: int) -> Work:
        """The product with m rows."""
        x, out = torch.randn(m, K), torch.empty(m, N)
        return on_each(lambda weight: self.run(x, weight, out), self.weights)

    def time_s(self, m: int, budget_s: float) -> float:
        """The median time with m rows."""
        return median_s(self.work(m), budget_s)


def product_rows(kernels: Kernels, threads: int, budget_s: float) -> Iterator[Row]:
    """Every format and number of rows beside a read of its weights and the same by torch.

    `budget_s` is for a format with one number of rows.
    """
    own = {name: own_product(kernels, name) for name in FORMATS}
    torch_int4 = _torch_int4()
    others = {"torch bf16": _torch_bf16()} | ({"torch int4": torch_int4} if torch_int4 else {})
    last = own[FORMATS[-1]]  # not what is read next, which would stay in a cache
    elsewhere = Reading(last.memory, last.weight_bytes, threads)
    for m in ROWS:
        reads = {  # anew, as products are: they stay half a turn apart
            name: Reading(each.memory, each.weight_bytes, threads) for name, each in own.items()
        }
        works: dict[str, Work] = {"wake": settled(elsewhere.work)}
        for name, each in own.items():
            works[f"read {name}"] = reads[name].work
            works[name] = each.work(m)
        works["wake torch"] = settled(others["torch bf16"].work(1))
        works |= {name: each.work(m) for name, each in others.items()}
        times = rounds_s(works, budget_s * (len(own) + len(others)))
        for name, each in own.items():
            yield _row(name, m, each, times, reads[name].rates(times[f"read {name}"]))


def _row(name: str, m: int, product: Contender, times: Seconds, read_rates: list[float]) -> Row:
    """Of x[m, K] @ weight[N, K].T: its median time, and ratios by round with their intervals.

    Bytes are those of the weight as it is stored; a product that torch lacks has no ratio.
    """
    time_s = statistics.median(times[name])
    rates = [product.weight_bytes / each for each in times[name]]
    ratios = {
        "over_own_bf16": times["bf16"],
        "over_torch_bf16": times["torch bf16"],
        "over_torch_int4": times.get("torch int4"),
    }
    row: Row = {
        "operation": "linear",
        "format": name,
        "m": m,
        "time_s": time_s,
        "gbytes_per_s": product.weight_bytes / time_s / 1e9,
        "gflops_per_s": 2 * m * N * K / time_s / 1e9,
        "rounds": len(rates),
        **with_interval("read_frac", quotients(rates, read_rates)),
    }
    for key, other in ratios.items():
        row |= with_interval(key, quotients(other, times[name])) if other else {key: None}
    return row


def own_product(
    kernels: Kernels, name: str, placed: Callable[[Tensor], Tensor] = streamed_copies
) -> Contender:
    """Our product with the weights of a format, of which `placed` makes [copies, *shape]."""
    format, weight = parse_format(name), torch.randn(N, K)
    size_bytes = format.matrix_bytes(N, K)
    if not format.is_packed:
        memory = placed(weight.bfloat16())
        return Contender(memory, list(memory), size_bytes, kernels.linear)
    packed = quantize(weight, format, "weight")
    memory = placed(packed.data)
    weights = [PackedWeight(data, format, (N, K)) for data in memory]
    return Contender(memory, weights, size_bytes, kernels.linear)


def _torch_bf16() -> Contender:
    memory = streamed_copies(torch.randn(N, K).bfloat16())
    return Contender(memory, list(memory), memory[0].nbytes, _torch_linear)


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
    memory = streamed_copies(packed)
    return Contender(memory, list(memory), packed.nbytes + factors.nbytes, run)
