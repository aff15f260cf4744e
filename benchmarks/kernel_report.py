"""The command of a benchmark of kernels: rates of the machine, a row for each case, one result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict

import torch

from benchmarks.entry import result_parser
from benchmarks.kernel_timing import measure_ceilings
from benchmarks.product_rows import Row
from benchmarks.result import report
from lm_offload.hardware.core_groups import spread_threads
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
    parser = result_parser(about)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--budget", type=float, default=case_s, help="seconds for each case")
    options = parser.parse_args()
    kernels = resolve_kernels(options.threads)
    spread_threads(options.threads)
    ceilings = measure_ceilings(options.threads, min(options.budget, CEILINGS_S))
    print(f"{kernels.name}, {options.threads} threads")
    print(f"memory read {ceilings.read_bytes_per_s / 1e9:.1f} GB/s")
    print(f"float32 product {ceilings.sgemm_flops_per_s / 1e9:.1f} GFLOP/s (torch)")
    report(
        name, measure(kernels, options.threads, options.budget), options.json, show=format_row,
        kernels=kernels.name, threads=options.threads, ceilings=asdict(ceilings),
    )  # fmt: skip
