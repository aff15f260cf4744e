"""How close each kernel comes to what this machine can do.

Prints the ceilings first (memory read bandwidth, float32 matrix product of torch), then a row
per operation with its best time, rate and fraction of the ceiling, then one JSON line.

    python benchmarks/bench_kernels.py --threads 2 --json kernels.json
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from lm_offload.kernels.memory import read_memory
from lm_offload.kernels.resolve import resolve_kernels
from lm_offload.sequence import MicroBatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lm_offload.kernels.base import Kernels

STREAMED_BYTES = 256 << 20  # far more than any cache, so that weights come from memory


@dataclass(frozen=True)
class Ceilings:
    """What this machine can do: bytes read and float32 operations of torch, per second."""

    read_bytes_per_s: float
    sgemm_flops_per_s: float


@dataclass(frozen=True)
class Result:
    """The best time of one operation, and its share of what the ceilings allow."""

    operation: str
    shape: str
    time_s: float
    gbytes_per_s: float
    gflops_per_s: float
    ceiling_frac: float


def best_s(runs: list[Callable[[], object]], budget_s: float) -> float:
    """The shortest time of any run; they are taken in turns until the budget is spent."""
    times: list[float] = []
    end = time.perf_counter() + budget_s
    while len(times) < 2 * len(runs) or time.perf_counter() < end:
        start = time.perf_counter()
        runs[len(times) % len(runs)]()
        times.append(time.perf_counter() - start)
    return min(times)


def measure_ceilings(threads: int, budget_s: float) -> Ceilings:
    """Read bandwidth over a large buffer, and torch's product of 512 x 2048 x 2048."""
    torch.set_num_threads(threads)
    parts = list(torch.ones(STREAMED_BYTES // 4).chunk(8))
    read_s = best_s([partial(read_memory, part, threads) for part in parts], budget_s)
    a, b = torch.randn(512, 2048), torch.randn(2048, 2048)
    out = torch.empty(512, 2048)
    product_s = best_s([partial(torch.mm, a, b.T, out=out)], budget_s)
    return Ceilings(parts[0].nbytes / read_s, 2 * 512 * 2048 * 2048 / product_s)


def result(
    operation: str, shape: str, time_s: float, nbytes: float, flops: float, ceilings: Ceilings
) -> Result:
    """A row; the ceiling is whichever of memory and arithmetic takes longer."""
    bound_s = max(nbytes / ceilings.read_bytes_per_s, flops / ceilings.sgemm_flops_per_s)
    return Result(
        operation, shape, time_s, nbytes / time_s / 1e9, flops / time_s / 1e9, bound_s / time_s
    )


def bench_linear(
    kernels: Kernels, ceilings: Ceilings, dtype: torch.dtype, budget_s: float
) -> Iterator[Result]:
    """Products of 1 to 256 rows with [5632, 2048] weights that come from memory."""
    n, k = 5632, 2048
    count = max(2, STREAMED_BYTES // (n * k * dtype.itemsize))
    weights = [torch.randn(n, k).to(dtype) for _ in range(count)]
    for m in (1, 2, 4, 8, 16, 64, 256):
        x, out = torch.randn(m, k), torch.empty(m, n)
        runs = [partial(kernels.linear, x, weight, out) for weight in weights]
        time_s = best_s(runs, budget_s)
        shape = f"{m}x{k} @ {n}x{k} {str(dtype)[6:]}"
        yield result("linear", shape, time_s, weights[0].nbytes, 2 * m * n * k, ceilings)


def paged_batch(rows: int, context: int, sequences: int, block_tokens: int) -> MicroBatch:
    """`sequences` times `rows` new rows at the end of `context` tokens."""
    blocks = -(-context // block_tokens)
    tables = torch.randperm(sequences * blocks, dtype=torch.int32).reshape(sequences, blocks)
    starts = torch.arange(0, (sequences + 1) * rows, rows, dtype=torch.int32)
    lens = torch.full((sequences,), context, dtype=torch.int32)
    slots = torch.zeros(sequences * rows, dtype=torch.int64)
    return MicroBatch(0, sequences * rows, slots, starts, lens, tables, slots, slots)


def bench_attention(
    kernels: Kernels, ceilings: Ceilings, heads: tuple[int, int, int], budget_s: float
) -> Iterator[Result]:
    """Decode of 16 and 1 sequences at context 4096, and prefill of 1024 rows; bf16 cache."""
    q_heads, kv_heads, head_dim = heads
    for rows, context, sequences in ((1, 4096, 16), (1, 4096, 1), (1024, 1024, 1)):
        batch = paged_batch(rows, context, sequences, 16)
        shape = (batch.block_tables.numel(), kv_heads, 16, head_dim)
        layers = max(1, STREAMED_BYTES // (2 * 2 * sequences * context * kv_heads * head_dim))
        caches = [[torch.randn(shape).bfloat16() for _ in "kv"] for _ in range(min(layers, 8))]
        q = torch.randn(rows * sequences, q_heads, head_dim)
        out = torch.empty_like(q)
        runs = [partial(kernels.attention, q, *kv, batch, head_dim**-0.5, out) for kv in caches]
        pairs = sequences * rows * (context - (rows - 1) / 2)
        yield result(
            "attention",
            f"{sequences}x{rows} rows, context {context}, {q_heads}/{kv_heads}x{head_dim} bf16",
            best_s(runs, budget_s),
            2 * caches[0][0].nbytes,
            4 * pairs * q_heads * head_dim,
            ceilings,
        )


def bench_rows(kernels: Kernels, ceilings: Ceilings, budget_s: float) -> Iterator[Result]:
    """Norms and gates of 1, 16 and 256 rows; small ones show the cost of a call."""
    weight = torch.ones(2048).bfloat16()
    for m in (1, 16, 256):
        x, out = torch.randn(m, 2048), torch.empty(m, 2048)
        gate, up, mixed = torch.randn(m, 5632), torch.randn(m, 5632), torch.empty(m, 5632)
        norm_s = best_s([partial(kernels.rms_norm, x, weight, 1e-5, out)], budget_s / 4)
        yield result("rms_norm", f"{m}x2048", norm_s, 2 * x.nbytes, 0, ceilings)
        gate_s = best_s([partial(kernels.silu_mul, gate, up, mixed)], budget_s / 4)
        yield result("silu_mul", f"{m}x5632", gate_s, 3 * gate.nbytes, 0, ceilings)


def measure(kernels: Kernels, ceilings: Ceilings, budget_s: float) -> Iterator[Result]:
    """Every row of the table."""
    for dtype in (torch.bfloat16, torch.float32):
        yield from bench_linear(kernels, ceilings, dtype, budget_s)
    for heads in ((32, 8, 128), (32, 4, 64)):
        yield from bench_attention(kernels, ceilings, heads, budget_s)
    yield from bench_rows(kernels, ceilings, budget_s)


def print_row(row: Result) -> None:
    """One line of the table."""
    print(
        f"{row.operation:10} {row.shape:46} {row.time_s * 1e6:10.1f} us"
        f" {row.gbytes_per_s:7.1f} GB/s {row.gflops_per_s:7.1f} GFLOP/s"
        f" {row.ceiling_frac:6.0%} of ceiling",
        flush=True,
    )


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--budget", type=float, default=0.5, help="seconds per row")
    parser.add_argument("--json", type=Path, help="also write the JSON line to this file")
    options = parser.parse_args()
    kernels = resolve_kernels(options.threads)
    ceilings = measure_ceilings(options.threads, 4 * options.budget)
    print(f"{kernels.name}, {options.threads} threads")
    print(f"memory read ceiling {ceilings.read_bytes_per_s / 1e9:.1f} GB/s")
    print(f"float32 product ceiling {ceilings.sgemm_flops_per_s / 1e9:.1f} GFLOP/s (torch)")
    results = []
    for row in measure(kernels, ceilings, options.budget):
        print_row(row)
        results.append(asdict(row))
    machine = {"cpu": torch.cpu.get_capabilities().get("cpu_name"), "system": platform.platform()}
    report = {
        "kernels": kernels.name, "threads": options.threads, "torch": torch.__version__,
        "machine": machine, "ceilings": asdict(ceilings), "results": results,
    }  # fmt: skip
    line = json.dumps(report)
    print(line)
    if options.json:
        options.json.write_text(line + "\n")


if __name__ == "__main__":
    main()
