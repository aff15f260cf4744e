"""Attention over the paged KV cache by format, context and batch, beside what memory allows.

Every format of a case and a read of as many bytes are timed in turns, and ratios are medians over
all turns, so that they hold on a machine that is not quiet. Keys and values come from memory, in
huge pages as in the engine, blocks in random order::

    python -m benchmarks.bench_attention --threads 2 --budget 10 --json attention.json
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import cycle
from typing import Any

import torch
from torch import Tensor

from benchmarks.entry import run
from benchmarks.kernel_report import report_rows
from benchmarks.kernel_timing import (
    STREAMED_BYTES,
    Reading,
    Seconds,
    Work,
    rounds_s,
)
from benchmarks.round_ratio import quotients, with_bounds, with_interval
from lm_offload.kernels.base import Kernels
from lm_offload.micro_batch import MicroBatch
from lm_offload.quant.kv_blocks import Blocks, CacheShape, blocks_in
from lm_offload.quant.kv_format import BLOCK_TOKENS, KV_FORMATS
from lm_offload.storage.arena import MemoryTier

FORMATS = ("bf16", "int8", "int4")
F16_ONE_BYTE = 0x20  # two of them are a scale of 0.0081 in fp16, and finite elsewhere
Row = dict[str, Any]


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


def attention_rows(kernels: Kernels, threads: int, budget_s: float) -> Iterator[Row]:
    """Every case in every format, each beside a read of as much KV; `budget_s` is for a case."""
    for case in CASES:
        works: dict[str, Work] = {}
        reads: dict[str, Reading] = {}
        for name in FORMATS:
            memory = _memory(_shape(case, name))
            reads[name] = Reading(memory, memory[0].nbytes, threads)
            works[f"read {name}"] = reads[name].work
            works[name] = _work(kernels, case, name, memory)
        times = rounds_s(works, budget_s)
        for name, read in reads.items():
            yield _row(case, name, times, read.rates(times[f"read {name}"]))


def _row(case: Case, name: str, times: Seconds, read_rates: list[float]) -> Row:
    """Median time and ratios by round; bytes are those of keys and values as they are stored."""
    time_s, size_bytes = statistics.median(times[name]), 2 * _shape(case, name).size_bytes
    rates = [size_bytes / each for each in times[name]]
    return {
        "case": asdict(case),
        "format": name,
        "time_s": time_s,
        "gbytes_per_s": size_bytes / time_s / 1e9,
        "gflops_per_s": case.flops / time_s / 1e9,
        **with_interval("read_frac", quotients(rates, read_rates)),
        **with_interval("over_bf16", quotients(times["bf16"], times[name])),
        "rounds": len(rates),
    }


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


def _memory(shape: CacheShape) -> Tensor:
    """Bytes [layers, 2 x size] of enough layers to come from memory, keys before values."""
    layers, size_bytes = max(1, STREAMED_BYTES // (2 * shape.size_bytes)), 2 * shape.size_bytes
    arena = MemoryTier("KV", layers * size_bytes).allocate("KV", layers * size_bytes)
    return arena.view(0, torch.uint8, (layers, size_bytes)).fill_(F16_ONE_BYTE)


def _work(kernels: Kernels, case: Case, name: str, memory: Tensor) -> Work:
    """Attends in the next layer at each call."""
    layers = cycle([_layer(each, _shape(case, name)) for each in memory])
    batch, scale = paged_batch(case), case.head_dim**-0.5
    q = torch.randn(batch.num_tokens, case.heads, case.head_dim)
    out = torch.empty_like(q)
    return lambda: kernels.attention(q, *next(layers), batch, scale, out)


def _layer(memory: Tensor, shape: CacheShape) -> tuple[Blocks, Blocks]:
    """Keys and values in the bytes of a layer."""
    keys, values = memory.view(2, -1)
    return blocks_in(keys, shape, "tokens"), blocks_in(values, shape, "channels")


def format_row(row: Row) -> str:
    """One line of the table."""
    case = Case(**row["case"])
    heads = f"{case.heads}/{case.kv_heads}x{case.head_dim}"
    return (
        f"{heads:10} {case.sequences:3} x {case.rows:3} rows, context {case.context:5} "
        f"{row['format']:5} {row['time_s'] * 1e6:10.1f} us {row['gbytes_per_s']:6.1f} GB/s "
        f"{with_bounds(row, 'read_frac', '.0%')} of reading {row['gflops_per_s']:6.1f} GFLOP/s "
        f"{with_bounds(row, 'over_bf16', '.2f')}x bf16"
    )


def main() -> None:
    """Measure, print and write the results."""
    report_rows("attention", __doc__, 2.0, attention_rows, format_row)


if __name__ == "__main__":
    run(main)
