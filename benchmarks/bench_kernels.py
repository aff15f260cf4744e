"""How close each kernel comes to what this machine can do; attention has bench_attention.py.

Prints the machine's rates first (memory read, float32 product of torch), then a row per operation
with its median time and its ratios: over reading the same bytes from the same buffers, and over
torch's own products. Whatever a ratio compares is run in turns, and the ratio is the median over
all turns, in brackets the interval that holds it nine times in ten; then one JSON line::

    python -m benchmarks.bench_kernels --threads 2 --budget 2 --json kernels.json
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch

from benchmarks.entry import run
from benchmarks.kernel_report import report_rows
from benchmarks.kernel_timing import median_s
from benchmarks.product_rows import Row, product_rows
from benchmarks.round_ratio import with_bounds
from lm_offload.kernels.base import Kernels


def norms_and_gates(kernels: Kernels, budget_s: float) -> Iterator[Row]:
    """Norms and gates of 1, 16 and 256 rows, in the caches; small ones show the cost of a call."""
    weight = torch.ones(2048).bfloat16()
    for m in (1, 16, 256):
        x, out = torch.randn(m, 2048), torch.empty(m, 2048)
        gate, up, mixed = torch.randn(m, 5632), torch.randn(m, 5632), torch.empty(m, 5632)
        norm_s = median_s(partial(kernels.rms_norm, x, weight, 1e-5, out), budget_s / 4)
        yield _row("rms_norm", f"{m}x2048", norm_s, 2 * x.nbytes)
        gate_s = median_s(partial(kernels.silu_mul, gate, up, mixed), budget_s / 4)
        yield _row("silu_mul", f"{m}x5632", gate_s, 3 * gate.nbytes)


def _row(operation: str, shape: str, time_s: float, size_bytes: int) -> Row:
    return {
        "operation": operation,
        "shape": shape,
        "time_s": time_s,
        "gbytes_per_s": size_bytes / time_s / 1e9,
        "gflops_per_s": 0.0,
    }


def measure(kernels: Kernels, threads: int, budget_s: float) -> Iterator[Row]:
    """Every row of the table."""
    yield from product_rows(kernels, threads, budget_s)
    yield from norms_and_gates(kernels, budget_s)


def format_row(row: Row) -> str:
    """One line of the table."""
    what = f"{row['format']:10} {row['m']:4} rows" if "m" in row else row["shape"]
    line = (
        f"{row['operation']:10} {what:20} {row['time_s'] * 1e6:10.1f} us "
        f"{row['gbytes_per_s']:7.1f} GB/s {row['gflops_per_s']:7.1f} GFLOP/s"
    )
    if "m" not in row:
        return line
    line += f" {with_bounds(row, 'read_frac', '.0%')} of reading"
    others = {"over_own_bf16": "own bf16", "over_torch_bf16": "torch bf16",
              "over_torch_int4": "torch int4"}  # fmt: skip
    times = (f"{with_bounds(row, key, '.2f')}x {name}" for key, name in others.items() if row[key])
    return ", ".join((line, *times))


def main() -> None:
    """Measure, print and write the results."""
    report_rows("kernels", __doc__, 0.5, measure, format_row)


if __name__ == "__main__":
    run(main)
