"""How fast the machine is just now against the profile that predictions are made from.

A virtual machine shares memory, clock and disk with neighbours that no process list shows. A
product of one row tells the memory's pace, one of many rows the cores', reads of a file the disk's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass, replace
from pathlib import Path

from lm_offload.hardware.disk_reader import DiskReader, Way
from lm_offload.hardware.memory_probe import probe_memory
from lm_offload.hardware.product_probe import MEMORY_SIZE, PLAIN, matrices, product_work
from lm_offload.hardware.profile import Curve, HardwareProfile, Link, Processor
from lm_offload.hardware.timing import typical_s
from lm_offload.kernels.resolve import resolve_kernels
from lm_offload.quant.format import parse_format
from lm_offload.storage.direct_file import DirectFile
from lm_offload.units import GIB, MIB

FEW_ROWS, MANY_ROWS = 1, 64
BUDGET_S = 0.25  # for products
DISK_S = 0.1
READ_MEMORY_BYTES = 32 * MIB
STEADY_FRAC = 0.07  # by which two readings may differ where a point counts as undisturbed


@dataclass(frozen=True)
class Pace:
    """Measured over profiled rates; 1.0 is as profiled."""

    memory: float
    cores: float
    disk: float


class PaceMeter:
    """Holds the matrices and the file, so that each reading takes a third of a second."""

    def __init__(self, threads: int, file: Path) -> None:
        self._kernels = resolve_kernels(threads)
        self._arena = probe_memory(GIB)
        self._reader = DiskReader(DirectFile(file), probe_memory(READ_MEMORY_BYTES).buffer)

    def read(self, profile: HardwareProfile) -> Pace:
        """The pace of this moment."""
        weights = matrices(self._arena, PLAIN, MEMORY_SIZE)
        works = {rows: product_work(self._kernels, weights, rows) for rows in (FEW_ROWS, MANY_ROWS)}
        seconds = typical_s(works, BUDGET_S)
        outputs, inputs = weights[0].shape
        cpu = profile.cpu
        memory, cores = (
            (cpu.kernel_s + cpu.product_s(PLAIN, rows, outputs * inputs)) / seconds[rows]
            for rows in (FEW_ROWS, MANY_ROWS)
        )
        return Pace(memory, cores, self._disk_pace(profile.disk_read))

    def _disk_pace(self, link: Link) -> float:
        way = Way(link.block_bytes, link.concurrency)
        if not self._reader.known_bytes:
            self._reader.read_first(way, DISK_S)
        return 1 / (self._reader.sampler(way, DISK_S)() * link.bytes_per_s.at(link.block_bytes))


def is_steady(before: Pace, after: Pace) -> bool:
    """Whether the machine was as fast after a point as it was before it."""
    pairs = zip(astuple(before), astuple(after), strict=True)
    return all(abs(later / sooner - 1) <= STEADY_FRAC for sooner, later in pairs)


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
    fixed = ("kernel_s", "task_s", "call_s", "sweep_s", "sequence_s")
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
            name: _product_at_pace(cpu, name, curve, pace)
            for name, curve in cpu.product_flops.items()
        },
        decode_attention_bytes_per_s=decode,
        **scaled,
    )


def _product_at_pace(cpu: Processor, name: str, curve: Curve, pace: Pace) -> Curve:
    """As memory where that binds by the roofline, as the cores from there on."""
    format = parse_format(name)
    factors = (
        pace.memory if cpu.roofline_flops(format, int(rows)) < cpu.peak_flops else pace.cores
        for rows in curve.sizes
    )
    return Curve(curve.sizes, tuple(r * f for r, f in zip(curve.rates, factors, strict=True)))


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
