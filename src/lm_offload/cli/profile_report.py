"""A profile as a table for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from lm_offload.cli.report import print_rows
from lm_offload.units import format_bytes, format_rate

if TYPE_CHECKING:
    from lm_offload.hardware.curve import Curve
    from lm_offload.hardware.processor import Processor
    from lm_offload.hardware.profile import HardwareProfile

ROWS = (1, 4, 16, 64, 256)
CONTEXTS = (16, 128, 1024, 4096)
BLOCKS = (4 << 10, 64 << 10, 1 << 20, 8 << 20)


def print_profile(console: Console, profile: HardwareProfile) -> None:
    """Everything measured, at some sizes."""
    print_rows(console, f"{profile.name}, {profile.source}", _summary(profile))
    _print_curves(console, "Products, GFLOP/s by rows", ROWS, _products(profile.cpu))
    cpu = profile.cpu
    title = "Decode attention, GB/s of keys and values by context"
    _print_curves(console, title, CONTEXTS, cpu.decode_attention_bytes_per_s)
    title = "Prefill attention, GFLOP/s by tokens that a row sees"
    _print_curves(console, title, CONTEXTS, cpu.prefill_attention_flops)
    if cpu.state_values_per_s is not None:
        title = "Recurrent states, G values a second by rows of a sequence"
        _print_curves(console, title, ROWS, {"f32": cpu.state_values_per_s})


def _summary(profile: HardwareProfile) -> Iterator[tuple[str, str]]:
    yield from _memory_rows(profile.cpu)
    yield from _overhead_rows(profile.cpu)
    yield from _disk_rows(profile)


def _memory_rows(cpu: Processor) -> Iterator[tuple[str, str]]:
    """The processor, its memory and its threads."""
    yield "threads", str(cpu.threads)
    yield "memory", format_bytes(cpu.memory_bytes)
    yield "memory reads", format_rate(cpu.memory_bytes_per_s)
    if curve := cpu.memory_by_threads_bytes_per_s:
        points = zip(curve.sizes, curve.rates, strict=True)
        yield "by threads", ", ".join(f"{size:.0f}: {format_rate(rate)}" for size, rate in points)
    for work, curve in cpu.thread_speedup.items():
        points = zip(curve.sizes, curve.rates, strict=True)
        factors = ", ".join(f"{size:.0f}: {rate:.2f}x" for size, rate in points)
        yield f"{work.replace('_', ' ')} by threads", factors
    yield "cache that holds weights", format_bytes(cpu.cache_bytes)


def _overhead_rows(cpu: Processor) -> Iterator[tuple[str, str]]:
    """What kernels and the engine take whatever they work on."""
    yield "fixed cost of a kernel", _microseconds(cpu.kernel_s)
    starts = cpu.cached_start_s, cpu.memory_start_s
    yield "start of a product from cache, from memory", _microseconds(*starts)
    costs = cpu.task_s, cpu.call_s, cpu.sweep_s, cpu.sequence_s
    yield "of a task, a kernel asked for, a sweep, a sequence", _microseconds(*costs)
    tasks = (s or cpu.task_s for s in (cpu.tiny_task_s, cpu.large_task_s))
    more = *tasks, cpu.micro_batch_s, cpu.row_s
    yield "of a task after a tiny and a large unit, a micro-batch, a row", _microseconds(*more)
    yield "left of these where weights stay cached", f"{cpu.cached_overhead_frac:.0%}"


def _disk_rows(profile: HardwareProfile) -> Iterator[tuple[str, str]]:
    """Reads, writes, and how reads and computing slow one another."""
    read, left = profile.disk_read, profile.interference
    blocks = (f"{format_bytes(size)}: {format_rate(read.bytes_per_s.at(size))}" for size in BLOCKS)
    yield "disk reads by block", ", ".join(blocks)
    yield "weights are read in", f"{read.concurrency} blocks of {format_bytes(read.block_bytes)}"
    yield "small units in", f"{read.few_readers or read.concurrency} blocks"
    yield "left of reads into small pages", f"{read.small_pages_frac:.0%}"
    yield "of the CPU for each block", _microseconds(read.block_s)
    yield "first read of a byte", format_rate(read.first_bytes_per_s)
    yield "disk writes", format_rate(profile.disk_write.bytes_per_s.at(BLOCKS[-1]))
    yield "left of reads while computing", f"{left.disk_read_while_computing_frac:.0%}"
    yield "left of computing while reading", f"{left.compute_while_reading_frac:.0%}"


def _products(cpu: Processor) -> dict[str, Curve]:
    from_cache = {f"{name}, from cache": curve for name, curve in cpu.cached_product_flops.items()}
    return {**cpu.product_flops, **from_cache}


def _print_curves(
    console: Console, title: str, sizes: tuple[int, ...], curves: Mapping[str, Curve]
) -> None:
    table = Table("", *map(str, sizes), title=title, title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, curve in curves.items():
        table.add_row(name, *(f"{curve.at(size) / 1e9:.1f}" for size in sizes))
    console.print(table)


def _microseconds(*seconds: float) -> str:
    return ", ".join(f"{value * 1e6:.1f} us" for value in seconds)
