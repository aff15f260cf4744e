"""How fast the machine is just now against the profile that predictions are made from.

A virtual machine shares memory, clock and disk with neighbours that no process list shows: its pace
moves by tens of per cent within a second. A product of one row tells the memory's pace, one of many
rows the cores', both in the format of the weights; reads of a file tell the disk's. Slices of a
tenth of a second are taken between and within what is measured; the pace of a phase is that of the
mean seconds of its slices. Fixed costs are taken to follow the cores: empty calls, timed by
themselves, differ by three times from slice to slice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

from lm_offload.hardware.curve import Curve
from lm_offload.hardware.disk_reader import DiskReader, Way
from lm_offload.hardware.memory_probe import probe_memory
from lm_offload.hardware.product_probe import matrices, product_work
from lm_offload.hardware.profile import (
    MEMORY_SIZE,
    HardwareProfile,
    Link,
    Processor,
)
from lm_offload.hardware.timing import typical_s
from lm_offload.kernels.resolve import resolve_kernels
from lm_offload.quant.format import Format
from lm_offload.storage.direct_file import DirectFile
from lm_offload.units import GIB, MIB

FEW_ROWS, MANY_ROWS = 1, 64
PRODUCTS_S = 0.1  # of a slice
DISK_S = 0.1
READ_MEMORY_BYTES = 32 * MIB


@dataclass(frozen=True)
class Pace:
    """Measured over profiled rates; 1.0 is as profiled."""

    memory: float
    cores: float
    disk: float


@dataclass(frozen=True)
class Slice:
    """Seconds of one product of few rows, of one of many rows and of a byte from the disk.

    `disk_byte_s` is None where the disk was not asked, as it was at work for a sweep.
    """

    few_rows_s: float
    many_rows_s: float
    disk_byte_s: float | None


class PaceMeter:
    """Holds the matrices and the file that slices are measured with."""

    def __init__(
        self, profile: HardwareProfile, threads: int, file: Path, formats: Iterable[Format]
    ) -> None:
        self._profile = profile
        self._kernels = resolve_kernels(threads)
        self._works = {format: self._products(format) for format in formats}
        link = profile.disk_read
        way = Way(link.block_bytes, link.concurrency)
        reader = DiskReader(DirectFile(file), probe_memory(READ_MEMORY_BYTES).buffer)
        reader.read_first(way, DISK_S)
        self._byte_s = reader.sampler(way, DISK_S)

    def _products(self, format: Format) -> dict[int, Callable[[], None]]:
        weights = matrices(probe_memory(GIB), format, MEMORY_SIZE)
        return {rows: product_work(self._kernels, weights, rows) for rows in (FEW_ROWS, MANY_ROWS)}

    def slice(self, format: Format, with_disk: bool = True) -> Slice:
        """This moment's."""
        seconds = typical_s(self._works[format], PRODUCTS_S)
        return Slice(seconds[FEW_ROWS], seconds[MANY_ROWS], self._byte_s() if with_disk else None)

    def pace(self, format: Format, slices: Iterable[Slice]) -> Pace:
        """Of the mean seconds of some slices in a format, at least one of them with the disk."""
        taken = list(slices)
        cpu, link = self._profile.cpu, self._profile.disk_read
        memory, cores = (
            (cpu.kernel_s + cpu.product_s(format, rows, MEMORY_SIZE**2)) / mean(seconds)
            for rows, seconds in (
                (FEW_ROWS, [one.few_rows_s for one in taken]),
                (MANY_ROWS, [one.many_rows_s for one in taken]),
            )
        )
        byte_s = mean(one.disk_byte_s for one in taken if one.disk_byte_s is not None)
        return Pace(memory, cores, 1 / (byte_s * link.bytes_per_s.at(link.block_bytes)))


def at_pace(profile: HardwareProfile, pace: Pace) -> HardwareProfile:
    """The profile as it would have been measured now: all that memory, cores or disk bind."""
    return replace(
        profile,
        cpu=_cpu_at_pace(profile.cpu, pace),
        disk_read=_link_at_pace(profile.disk_read, pace.disk),
        disk_write=_link_at_pace(profile.disk_write, pace.disk),
    )


def _cpu_at_pace(cpu: Processor, pace: Pace) -> Processor:
    curves = ("cached_product_flops", "operation_bytes_per_s", "prefill_attention_flops")
    rates = ("peak_flops", "elementwise_bytes_per_s", "sampled_values_per_s")
    fixed = (
        "kernel_s",
        *("memory_start_s", "cached_start_s"),
        *("tiny_task_s", "task_s", "large_task_s"),
        "call_s",
        "sweep_s",
        "sequence_s",
        "micro_batch_s",
    )
    scaled = {
        **{name: _curves(getattr(cpu, name), pace.cores) for name in curves},
        **{name: getattr(cpu, name) * pace.cores for name in rates},
        **{name: getattr(cpu, name) / pace.cores for name in fixed},
    }
    decode = _curves(cpu.decode_attention_bytes_per_s, (pace.memory * pace.cores) ** 0.5)
    return replace(
        cpu,
        memory_bytes_per_s=cpu.memory_bytes_per_s * pace.memory,
        product_flops={
            name: _product_at_pace(curve, pace) for name, curve in cpu.product_flops.items()
        },
        decode_attention_bytes_per_s=decode,
        **scaled,
    )


def _product_at_pace(curve: Curve, pace: Pace) -> Curve:
    """One row as memory, many rows as the cores; between them by how far the rate has risen."""
    least, most = curve.at(FEW_ROWS), curve.at(MANY_ROWS)
    rates = []
    for rate in curve.rates:
        share = min(max((rate - least) / (most - least), 0.0), 1.0) if most > least else 1.0
        rates.append(rate * pace.memory ** (1 - share) * pace.cores**share)
    return Curve(curve.sizes, tuple(rates))


def _curves(curves: Mapping[str, Curve], factor: float) -> dict[str, Curve]:
    return {name: _curve(curve, factor) for name, curve in curves.items()}


def _curve(curve: Curve, factor: float) -> Curve:
    return Curve(curve.sizes, tuple(rate * factor for rate in curve.rates))


def _link_at_pace(link: Link, factor: float) -> Link:
    return replace(
        link,
        bytes_per_s=_curve(link.bytes_per_s, factor),
        request_s=link.request_s / factor,
        burst_bytes_per_s=_curve(link.burst_bytes_per_s, factor)
        if link.burst_bytes_per_s
        else None,
    )
