"""Attention over the paged KV cache by format, context and batch, beside what memory allows.

Every format of a case is timed in turn, so that the ratios hold on a machine that is not quiet.
Keys and values come from memory, in huge pages as in the engine, blocks in random order::

    python -m benchmarks.bench_attention --threads 2 --json attention.json
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from benchmarks.kernel_timing import STREAMED_BYTES, Ceilings, measure_ceilings
from benchmarks.testbed import describe
from lm_offload.kernels.base import Kernels
from lm_offload.kernels.resolve import resolve_kernels
from lm_offload.quant.kv_blocks import Blocks, CacheShape, blocks_in
from lm_offload.quant.kv_format import BLOCK_TOKENS, KV_FORMATS
from lm_offload.sequence import MicroBatch
from lm_offload.storage.arena import MemoryTier

FORMATS = ("bf16", "int8", "int4")
MIN_ROUNDS = 5
F16_ONE_BYTE = 0x20  # two of them are a scale of 0.0081 in fp16, and finite elsewhere


@dataclass(frozen=True)
class Case:
    """`rows` new tokens at the end of `context` tokens, in each of `sequences`."""

    heads: int
    kv_heads: int
    head_dim: int
    sequences: int
    context: int
    rows: int = 1

    @property
    def tokens(self) -> int:
        """In the cache."""
        return self.sequences * self.context

    @property
    def flops(self) -> float:
        """Of scores and weighted sums of what is visible."""
        pairs = self.sequences * self.rows * (self.context - (self.rows - 1) / 2)
        return 4 * pairs * self.heads * self.head_dim


CASES = (
    *(Case(32, 8, 128, *size) for size in ((16, 4096), (1, 4096), (16, 512), (1, 128))),
    *(Case(32, 4, 64, *size) for size in ((16, 4096), (16, 128), (1, 128))),
    Case(32, 32, 128, 1, 4096),
    Case(32, 8, 128, 1, 1024, rows=256),
    Case(32, 4, 64, 1, 1024, rows=256),
)


@dataclass(frozen=True)
class AttentionResult:
    """The median time of one call; bytes are those of keys and values as they are stored."""

    case: Case
    format: str
    time_s: float
    gbytes_per_s: float
    read_frac: float  # of the memory's read bandwidth
    gflops_per_s: float
    over_bf16: float  # times faster than bf16


def attention_rows(
    kernels: Kernels, ceilings: Ceilings, budget_s: float
) -> Iterator[AttentionResult]:
    """Every case in every format; `budget_s` is for a case."""
    for case in CASES:
        works = {name: _work(kernels, case, name) for name in FORMATS}
        times_s = _medians_s(works, budget_s)
        for name, time_s in times_s.items():
            shape = _shape(case, name)
            rate = 2 * shape.size_bytes / time_s
            yield AttentionResult(
                case=case,
                format=name,
                time_s=time_s,
                gbytes_per_s=rate / 1e9,
                read_frac=rate / ceilings.read_bytes_per_s,
                gflops_per_s=case.flops / time_s / 1e9,
                over_bf16=times_s["bf16"] / time_s,
            )


def paged_batch(case: Case) -> MicroBatch:
    """The rows of a case over blocks in random order."""
    rows, sequences, blocks = case.rows, case.sequences, -(-case.context // BLOCK_TOKENS)
    slots = torch.zeros(sequences * rows, dtype=torch.int64)
    return MicroBatch(
        start=0,
        stop=sequences * rows,
        positions=slots,
        query_starts=torch.arange(0, (sequences + 1) * rows, rows, dtype=torch.int32),
        context_lens=torch.full((sequences,), case.context, dtype=torch.int32),
        block_tables=torch.randperm(sequences * blocks, dtype=torch.int32).view(sequences, blocks),
        slots=slots,
    )


def _shape(case: Case, name: str) -> CacheShape:
    blocks = case.sequences * -(-case.context // BLOCK_TOKENS)
    return CacheShape(blocks, case.kv_heads, case.head_dim, KV_FORMATS[name])


def _work(kernels: Kernels, case: Case, name: str) -> Callable[[], None]:
    """A function that attends in the next layer at each call."""
    layers = itertools.cycle(_layers(_shape(case, name)))
    batch, scale = paged_batch(case), case.head_dim**-0.5
    q = torch.randn(batch.num_tokens, case.heads, case.head_dim)
    out = torch.empty_like(q)
    return lambda: kernels.attention(q, *next(layers), batch, scale, out)


def _layers(shape: CacheShape) -> list[tuple[Blocks, Blocks]]:
    """Keys and values of enough layers to come from memory."""
    count = max(1, STREAMED_BYTES // (2 * shape.size_bytes))
    tier = MemoryTier("KV", 2 * count * shape.size_bytes)
    arena = tier.allocate("KV", 2 * count * shape.size_bytes)
    memory = arena.view(0, torch.uint8, (2 * count, shape.size_bytes)).fill_(F16_ONE_BYTE)
    lanes = ("tokens", "channels")
    return [
        tuple(blocks_in(part, shape, lane) for part, lane in zip(pair, lanes, strict=True))
        for pair in memory.view(count, 2, -1)
    ]


def _medians_s(works: dict[str, Callable[[], None]], budget_s: float) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in works}
    end_s = time.perf_counter() + budget_s
    while len(times["bf16"]) < MIN_ROUNDS or time.perf_counter() < end_s:
        for name, work in works.items():
            start_s = time.perf_counter()
            work()
            times[name].append(time.perf_counter() - start_s)
    return {name: statistics.median(some) for name, some in times.items()}


def format_row(row: AttentionResult) -> str:
    """One line of the table."""
    case = row.case
    heads = f"{case.heads}/{case.kv_heads}x{case.head_dim}"
    return (
        f"{heads:10} {case.sequences:3} x {case.rows:3} rows, context {case.context:5} "
        f"{row.format:5} {row.time_s * 1e6:10.1f} us {row.gbytes_per_s:6.1f} GB/s "
        f"({row.read_frac:4.0%} of reading) {row.gflops_per_s:6.1f} GFLOP/s "
        f"{row.over_bf16:.2f}x bf16"
    )


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--budget", type=float, default=2.0, help="seconds per case")
    parser.add_argument("--json", type=Path, help="also write the JSON to this file")
    options = parser.parse_args()
    kernels = resolve_kernels(options.threads)
    ceilings = measure_ceilings(options.threads, options.budget)
    print(f"{kernels.name}, {options.threads} threads")
    print(f"memory read ceiling {ceilings.read_bytes_per_s / 1e9:.1f} GB/s")
    rows = []
    for row in attention_rows(kernels, ceilings, options.budget):
        print(format_row(row), flush=True)
        rows.append(asdict(row))
    report = {
        "benchmark": "attention", "testbed": describe(), "kernels": kernels.name,
        "threads": options.threads, "ceilings": asdict(ceilings), "rows": rows,
    }  # fmt: skip
    print(json.dumps(report))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
