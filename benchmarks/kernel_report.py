"""The command of a benchmark of kernels: rates of the machine, a row for each case, one result."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks.kernel_timing import measure_ceilings
from benchmarks.part_file import give
from benchmarks.product_rows import Row
from benchmarks.testbed import describe
from lm_offload.kernels.base import Kernels
from lm_offload.kernels.resolve import resolve_kernels

CEILINGS_S = 2.0  # at most, of each


def report_rows(
    name: str,
    about: str | None,
    case_s: float,
    measure: Callable[[Kernels, int, float], Iterator[Row]],
    format_row: Callable[[Row], str],
) -> None:
    """Print what `measure(kernels, threads, seconds of a case)` yields, and give the result."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--budget", type=float, default=case_s, help="seconds for each case")
    parser.add_argument("--json", type=Path, help="also write the JSON to this file")
    options = parser.parse_args()
    kernels = resolve_kernels(options.threads)
    ceilings = measure_ceilings(options.threads, min(options.budget, CEILINGS_S))
    print(f"{kernels.name}, {options.threads} threads")
    print(f"memory read {ceilings.read_bytes_per_s / 1e9:.1f} GB/s")
    print(f"float32 product {ceilings.sgemm_flops_per_s / 1e9:.1f} GFLOP/s (torch)")
    rows = []
    for row in measure(kernels, options.threads, options.budget):
        print(format_row(row), flush=True)
        rows.append(row)
    result = {
        "benchmark": name, "testbed": describe(), "kernels": kernels.name,
        "threads": options.threads, "ceilings": asdict(ceilings), "rows": rows,
    }  # fmt: skip
    give(result, options.json)
