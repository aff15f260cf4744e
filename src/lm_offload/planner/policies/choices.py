"""What a search may choose from; a constraint is a choice of one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from lm_offload.planner.policies.policy import Dequantize, PhasePolicy, Policy, ScheduleKind, Share
from lm_offload.planner.policies.shares import WHATS
from lm_offload.quant.format import Format

ON_CPU = Share(cpu=1.0)
ON_GPU = PhasePolicy("gpu", "gpu")
SPLIT = PhasePolicy("gpu", "cpu")  # attention where the KV cache lies
CPU_ONLY = PhasePolicy("cpu", "cpu")
MICRO_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 48, 64, 128, 256)
MICRO_BATCH_COUNTS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16, 20, 24, 32)
SCHEDULES: tuple[ScheduleKind, ...] = ("zigzag", "cgopipe", "pipo-memory")


@dataclass(frozen=True)
class Choices:
    """Every combination is tried; shares that are None are found by linear programming."""

    weight_formats: tuple[Format, ...]
    kv_formats: tuple[Format, ...]
    prefill: tuple[PhasePolicy, ...] = (ON_GPU, CPU_ONLY)
    decode: tuple[PhasePolicy, ...] = (ON_GPU, SPLIT, CPU_ONLY)
    micro_batch_sizes: tuple[int, ...] = MICRO_BATCH_SIZES
    micro_batch_counts: tuple[int, ...] = MICRO_BATCH_COUNTS
    schedules: tuple[ScheduleKind, ...] = SCHEDULES
    dequantize: tuple[Dequantize, ...] = ("fused",)
    prefetch_units: tuple[int, ...] = (1, 2)
    batch_size: int | None = None  # sequences of a block; None: as many as pay
    weights: Share | None = None
    kv: Share | None = None
    activations: Share | None = None
    pinned: bool = True
    kv_pinned: bool = True

    def policies(self) -> Iterator[Policy]:
        """One policy for each combination of formats, devices and block, free shares on the CPU.

        Schedule and prefetch depth, which change buffers only, are the first ones allowed.
        """
        options = itertools.product(
            self.weight_formats, self.kv_formats, self.dequantize, self.devices(), self.blocks()
        )
        for weight_format, kv_format, dequantize, (prefill, decode), (size, count) in options:
            yield Policy(
                self.weights or ON_CPU,
                self.kv or ON_CPU,
                self.activations or ON_CPU,
                size,
                count,
                prefill,
                decode,
                self.schedules[0],
                weight_format,
                kv_format,
                dequantize,
                self.prefetch_units[0],
                self.pinned,
                self.kv_pinned,
            )

    def devices(self) -> list[tuple[PhasePolicy, PhasePolicy]]:
        """Devices of prefill and decode.

        Prefill on the CPU before decode on the GPU is left out, unless nothing else is allowed: a
        GPU helps prefill more.
        """
        pairs = list(itertools.product(self.prefill, self.decode))
        sensible = [pair for pair in pairs if pair[0].compute == "gpu" or pair[1].compute == "cpu"]
        return sensible or pairs

    @property
    def free(self) -> tuple[str, ...]:
        """What has no fixed share."""
        return tuple(what for what in WHATS if getattr(self, what) is None)

    def variants(self) -> list[tuple[ScheduleKind, int]]:
        """Schedules, each with the prefetch depths that it can have; the searched one first."""
        return [
            (schedule, units)
            for schedule in self.schedules
            for units in (self.prefetch_units if schedule == "zigzag" else (1,))
        ]

    def blocks(self) -> list[tuple[int, int]]:
        """Sizes and counts of micro-batches."""
        if self.batch_size is None:
            return [*itertools.product(self.micro_batch_sizes, self.micro_batch_counts)]
        return [*zip(self.micro_batch_sizes, self.micro_batch_counts, strict=True)]
