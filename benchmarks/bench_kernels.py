"""How close each kernel comes to what this machine can do.

Prints the ceilings first (memory read bandwidth, float32 matrix product of torch), then a row
per operation with its median time, rate and share of the ceiling (products with weights in
several formats also beside torch's own), then one JSON line.

    python -m benchmarks.bench_kernels --threads 2 --json kernels.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch

from benchmarks.kernel_timing import (
    STREAMED_BYTES,
    Ceilings,
    Result,
    measure_ceilings,
    median_s,
    result,
)
from benchmarks.product_rows import ProductResult, product_rows
from benchmarks.testbed import describe
from lm_offload.kernels.base import Kernels
from lm_offload.kernels.resolve import resolve_kernels
from lm_offload.sequence import MicroBatch


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
            median_s(runs, budget_s),
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
        norm_s = median_s([partial(kernels.rms_norm, x, weight, 1e-5, out)], budget_s / 4)
        yield result("rms_norm", f"{m}x2048", norm_s, 2 * x.nbytes, 0, ceilings)
        gate_s = median_s([partial(kernels.silu_mul, gate, up, mixed)], budget_s / 4)
        yield result("silu_mul", f"{m}x5632", gate_s, 3 * gate.nbytes, 0, ceilings)


def measure(
    kernels: Kernels, ceilings: Ceilings, budget_s: float
) -> Iterator[Result | ProductResult]:
    """Every row of the table."""
    yield from product_rows(kernels, ceilings, budget_s)
    for heads in ((32, 8, 128), (32, 4, 64)):
        yield from bench_attention(kernels, ceilings, heads, budget_s)
    yield from bench_rows(kernels, ceilings, budget_s)


def format_row(row: Result | ProductResult) -> str:
    """One line of the table."""
    rates = f"{row.gbytes_per_s:7.1f} GB/s {row.gflops_per_s:7.1f} GFLOP/s"
    if isinstance(row, Result):
        name, share = f"{row.operation:10} {row.shape:46}", f"{row.ceiling_frac:5.0%} of ceiling"
    else:
        name, share = f"{row.operation:10} {row.format:10} {row.m:4} rows", _comparison(row)
    return f"{name} {row.time_s * 1e6:10.1f} us {rates} {share}"


def _comparison(row: ProductResult) -> str:
    int4 = f"{row.over_torch_int4:.1f}x" if row.over_torch_int4 else "none"
    return (
        f"{row.read_frac:5.0%} of reading, {row.over_own_bf16:.2f}x own bf16, "
        f"{row.over_torch_bf16:.1f}x torch bf16, {int4} torch int4"
    )


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--budget", type=float, default=0.5, help="seconds per row")
    parser.add_argument("--json", type=Path, help="also write the JSON to this file")
    options = parser.parse_args()
    kernels = resolve_kernels(options.threads)
    ceilings = measure_ceilings(options.threads, 4 * options.budget)
    print(f"{kernels.name}, {options.threads} threads")
    print(f"memory read ceiling {ceilings.read_bytes_per_s / 1e9:.1f} GB/s")
    print(f"float32 product ceiling {ceilings.sgemm_flops_per_s / 1e9:.1f} GFLOP/s (torch)")
    results = []
    for row in measure(kernels, ceilings, options.budget):
        print(format_row(row), flush=True)
        results.append(asdict(row))
    report = {
        "benchmark": "kernels", "testbed": describe(), "kernels": kernels.name,
        "threads": options.threads, "ceilings": asdict(ceilings), "rows": results,
    }  # fmt: skip
    print(json.dumps(report))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
