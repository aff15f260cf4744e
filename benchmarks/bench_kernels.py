"""How close each kernel comes to what this machine can do; attention has bench_attention.py.

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
