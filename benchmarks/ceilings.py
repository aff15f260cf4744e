"""What no engine can pass on this machine: bytes and FLOPs of the weights over measured rates.

Rates are measured beside the runs that they are held against, since a shared machine changes by
the minute. KV cache and activations are left out, so that the ceiling holds for every engine.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.disk_meter import DiskMeter
from benchmarks.kernel_timing import Reading, Work, rounds_s, settled, streamed_copies
from benchmarks.product_rows import K, N, own_product
from benchmarks.weight_files import largest_weight_file
from lm_offload.arch.accounting import loaded_bytes, unit_flops
from lm_offload.arch.config import load_config
from lm_offload.arch.experts import touched_experts
from lm_offload.arch.weights import build_units
from lm_offload.hardware.core_groups import spread_threads
from lm_offload.kernels.resolve import resolve_kernels

Row = dict[str, Any]
Products = dict[str, tuple[Work, Work]]  # by name: what wakes its threads, and the product

HEAD_BYTES = 1 << 30  # the head's parts do not matter to sums
PRODUCT_ROWS = 256
METER_ROUNDS = 2
READ_BYTES = 64 << 20
FORMAT_BYTES = {"int8": 1.0, "int4": 0.5}  # of a weight, without scales: no engine reads less
# Products that an engine may choose: most round activations as well, which is faster.
KERNEL_FORMATS = {None: "bf16", "int8": "int8:64:a8", "int4": "int4:64:a8"}


@dataclass(frozen=True)
class Rates:
    """What the machine does now; the disk's only where weights are streamed."""

    memory_read_bytes_per_s: float
    product_flops_per_s: float
    disk_read_bytes_per_s: float | None


@dataclass(frozen=True)
class Weights:
    """Of one model in one format: bytes that every sweep reads, FLOPs of a token.

    Prefill needs logits of the last token of each prompt only. Of the experts of a mixture a sweep
    needs those that any of its rows uses, each row choosing evenly.
    """

    size_bytes: float
    decode_flops: float
    prefill_flops: float
    experts_bytes: float = 0.0
    experts: int = 1  # of a layer
    experts_per_token: int = 1

    def seconds(self, flops: float, rows: int, limit_bytes: int | None, rates: Rates) -> float:
        """The least time of a sweep of rows of `flops` each, with `limit_bytes` of memory."""
        used_frac = touched_experts(self.experts, self.experts_per_token, rows) / self.experts
        bounds = [
            (self.size_bytes + used_frac * self.experts_bytes) / rates.memory_read_bytes_per_s,
            rows * flops / rates.product_flops_per_s,
        ]
        if limit_bytes is not None and rates.disk_read_bytes_per_s:
            bounds.append(
                self._streamed_bytes(limit_bytes, used_frac) / rates.disk_read_bytes_per_s
            )
        return max(bounds)

    def _streamed_bytes(self, limit_bytes: int, used_frac: float) -> float:
        """At least, where all that every row uses comes first, and nobody knows which experts."""
        experts_bytes = min(self.experts_bytes, self.size_bytes + self.experts_bytes - limit_bytes)
        return max(0.0, self.size_bytes - limit_bytes) + used_frac * max(0.0, experts_bytes)


def weights_of(model: Path, weight_format: str | None) -> Weights:
    """From the model's config alone; embedding rows are gathered, not read."""
    config = load_config(model)
    element_bytes = FORMAT_BYTES.get(weight_format or "", config.itemsize)
    units = build_units(config, HEAD_BYTES)
    experts = [unit for unit in units if unit.kind == "expert"]
    others = [unit for unit in units if unit.kind != "expert"]
    flops = sum(map(unit_flops, others))
    flops += sum(map(unit_flops, experts)) * config.experts_per_token // config.num_experts
    head_flops = sum(unit_flops(unit) for unit in others if unit.kind == "head")
    return Weights(
        element_bytes * sum(loaded_bytes(unit, 1) for unit in others),
        flops,
        flops - head_flops,
        element_bytes * sum(loaded_bytes(unit, 1) for unit in experts),
        config.num_experts,
        config.experts_per_token,
    )


class RateMeter:
    """Measures the machine's rates again and again, a third of a second each, beside every run.

    A reading is the best of a few, for nothing may pass it; buffers are touched once. The disk
    reads the same bytes again, as engines that stream do; its rate is None where nothing is
    streamed. The product is the fastest at that moment of torch's in fp32, torch's in bf16 and ours
    in the weights' format.
    """

    def __init__(self, model: Path, weight_format: str | None, limited: bool, threads: int) -> None:
        torch.set_num_threads(threads)
        spread_threads(threads)
        memory = streamed_copies(torch.ones(READ_BYTES, dtype=torch.uint8))
        self._read = Reading(memory, READ_BYTES, threads)
        self._products = fast_products(product_works(weight_format, threads))
        self._works: dict[str, Work] = {
            "wake": settled(self._read.work),
            "read": self._read.work,
            **in_turns(self._products),
        }
        self._disk = DiskMeter(largest_weight_file(model)) if limited else None

    def read(self) -> Rates:
        """The rates now."""
        times_s = rounds_s(self._works, 0.0, METER_ROUNDS)
        least_s = min(min(times_s[name]) for name in self._products)
        return Rates(
            memory_read_bytes_per_s=self._read.size_bytes / min(times_s["read"]),
            product_flops_per_s=2 * PRODUCT_ROWS * N * K / least_s,
            disk_read_bytes_per_s=self._disk.best_bytes_per_s() if self._disk else None,
        )


def product_works(weight_format: str | None, threads: int) -> Products:
    """Products that are candidates for the machine's rate, each behind what wakes its threads."""
    x, weight, small = torch.randn(PRODUCT_ROWS, K), torch.randn(N, K), torch.ones(256, 256)
    kernels, wake = resolve_kernels(threads), settled(partial(torch.mm, small, small))
    found = {
        f"torch {dtype}": (wake, partial(torch.mm, x.to(dtype), weight.to(dtype).T))
        for dtype in (torch.float32, torch.bfloat16)
    }
    own = own_product(kernels, KERNEL_FORMATS[weight_format], lambda data: data.unsqueeze(0))
    return found | {"own": (settled(own.work(1)), own.work(PRODUCT_ROWS))}


def fast_products(products: Products) -> Products:
    """Those that take at most twice the least time in a few rounds: which wins may change."""
    times_s = rounds_s(in_turns(products), 0.0)
    least_s = min(min(times_s[name]) for name in products)
    return {name: each for name, each in products.items() if min(times_s[name]) <= 2 * least_s}


def in_turns(products: Products) -> dict[str, Work]:
    """Each behind what wakes its threads, which is not part of its time."""
    works: dict[str, Work] = {}
    for name, (wake, product) in products.items():
        works |= {f"wake {name}": wake, name: product}
    return works


def ceilings(
    weights: Weights, rates: Rates, batch: int, prompt_len: int, limit_bytes: int | None
) -> Row:
    """What a row says of the machine: its rates, and the tokens/s that no engine can pass."""
    tokens = batch * prompt_len
    decode_s = weights.seconds(weights.decode_flops, batch, limit_bytes, rates)
    prefill_s = weights.seconds(weights.prefill_flops, tokens, limit_bytes, rates)
    return {
        "weight_bytes": round(weights.size_bytes),
        **asdict(rates),
        "decode_ceiling_tokens_per_s": round(batch / decode_s, 3),
        "prefill_ceiling_tokens_per_s": round(tokens / prefill_s, 3),
    }


def shares(row: Row) -> Row:
    """Of its ceilings that a run reached; nothing of one that failed."""
    if row.get("error"):
        return {}
    return {
        f"{phase}_ceiling_frac": round(
            row[f"{phase}_tokens_per_s"] / row[f"{phase}_ceiling_tokens_per_s"], 4
        )
        for phase in ("decode", "prefill")
    }
