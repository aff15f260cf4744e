"""Seconds of sweeps: units on the CPU, streamed units on the disk beside it.

::

    ring of any 2 neighbours  sweep = max(reads, computes + overhead)
    ring of 1                 sweep = max(reads, computes of resident units + overhead)
                                      + computes of streamed units

The recurrence over the units of a sweep has the last word; this form gives the search its speed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lm_offload.plan import IN_MEMORY, KVSpill
from lm_offload.planner.costs.ring_depth import RingDepth
from lm_offload.planner.costs.sweep_shape import SweepShape
from lm_offload.planner.lazy import lazy
from lm_offload.planner.sweeps.disturbance import Disturbance, disturbance
from lm_offload.planner.sweeps.engine_time import fixed_s, overhead_s
from lm_offload.planner.sweeps.kv_lending import KVLending
from lm_offload.planner.sweeps.kv_reads import LayerReads, SpillCosts, slower_layers
from lm_offload.planner.sweeps.read_times import ReadTimes
from lm_offload.planner.sweeps.spill_sums import spill_sums
from lm_offload.planner.sweeps.staging_cost import runs_of_kv, staging_s
from lm_offload.planner.sweeps.sweep_load import SweepLoad, SweepSums
from lm_offload.planner.sweeps.sweep_recurrence import sweep_seconds
from lm_offload.step_time import StepTime

EMBED = 0  # the first unit


@dataclass(frozen=True)
class SweepTimes(ReadTimes):
    """Times of one way to run a model: what is streamed, how rows are cut."""

    spill: KVSpill = IN_MEMORY
    lending: KVLending | None = None  # of unused KV memory to streamed units

    @lazy
    def reads_ahead(self) -> bool:
        """Whether the ring holds a part of a unit that is read beside one that is computed."""
        depth = RingDepth(1, self.in_flight_bytes)
        return self.ring_bytes >= depth.bytes_of([*self.streamed_bytes.values()])

    def load(self, shape: SweepShape) -> SweepLoad:
        """What the resources have to do in a sweep, as slow as they make one another."""
        kv = self._spilled.layers(shape) if self.spill.layers else {}
        compute_s = self._compute_s(shape, kv)
        kept = self.lending.kept(shape) if self.lending else frozenset()
        reads_s = {u: s for u, s in self._undisturbed_reads_s.items() if u not in kept}
        disk_s = sum(reads_s.values()) + sum(layer.read_s for layer in kv.values())
        alone = {} if self.reads_ahead or kv else reads_s  # nothing is read beside these
        beside_s = sum(seconds for unit, seconds in enumerate(compute_s) if unit not in alone)
        found = disturbance(beside_s, disk_s, self.profile.interference)
        compute_s = [
            seconds * (1.0 if unit in alone else found.slower_cpu)
            for unit, seconds in enumerate(compute_s)
        ]
        compute_s[EMBED] += self._own_rows_s(shape.rows)  # whose wait is not slowed
        return SweepLoad(
            compute_s,
            {unit: seconds * found.slower_disk for unit, seconds in reads_s.items()},
            self._overhead_s(shape),
            sum(self.streamed_bytes[unit] for unit in reads_s),
            slower_layers(kv, found.slower_disk),
            idle_s=self._longest_idle_s if self.reads_ahead else 0.0,
            behind_s=0.0 if kv else self._behind_s,
        )

    def steady(self, shape: SweepShape) -> StepTime:
        """One of many sweeps alike, without simulation; a little optimistic."""
        read_bytes = self._read_frac(shape) * sum(self.streamed_bytes.values())
        return self._sums(shape).step_time(read_bytes)

    def steady_s(self, shape: SweepShape) -> float:
        """Seconds of the same."""
        return self._sums(shape).total_s

    def _sums(self, shape: SweepShape) -> SweepSums:
        """From sums over units where those are enough, which is faster."""
        if self.spill.layers and not self.reads_ahead:
            return self._sums_of(self.load(shape))
        costs, most = self.costs, self.micro_batch_tokens
        kv = spill_sums(costs, self._spilled, shape, most)
        read_frac = self._read_frac(shape)
        disk_s = read_frac * self._undisturbed_disk_s + kv.read_s
        alone_s = 0.0
        if not self.reads_ahead:
            units_s = costs.unit_s(shape, most)
            alone_s = read_frac * sum(map(units_s.__getitem__, self.streamed))
        found = disturbance(kv.compute_s - alone_s, disk_s, self.profile.interference)
        disk_s *= found.slower_disk
        gather_s, engine_s = self._gather_s(shape, found), self._overhead_s(shape)
        cpu_s = found.slower_cpu * (kv.compute_s - alone_s) + alone_s + gather_s
        if not self.reads_ahead and EMBED in self.streamed:
            alone_s += read_frac * gather_s
        total_s = max(disk_s, kv.write_s, cpu_s - alone_s + engine_s) + alone_s
        cpu_s += self._own_rows_s(shape.rows) - gather_s  # the rest of it waits for the disk
        return SweepSums(total_s, cpu_s, engine_s, disk_s, kv.read_bytes)

    def _read_frac(self, shape: SweepShape) -> float:
        """The share of streamed bytes that no unused KV memory holds."""
        return 1.0 - (self.lending.kept_frac(shape) if self.lending else 0.0)

    def _sums_of(self, load: SweepLoad) -> SweepSums:
        """Where the next read waits until the streamed unit was computed."""
        alone_s = sum(load.compute_s[unit] for unit in load.read_s)
        beside_s = load.cpu_s - alone_s + load.overhead_s
        total_s = max(load.disk_s, load.write_s, beside_s) + alone_s
        return SweepSums(total_s, load.cpu_s, load.overhead_s, load.disk_s, load.kv_read_bytes)

    def _compute_s(self, shape: SweepShape, kv: Mapping[int, LayerReads]) -> list[float]:
        """Attention over a cache on disk uses its weights again for every group."""
        compute_s = self.costs.unit_s(shape, self.micro_batch_tokens)
        most = self.micro_batch_tokens
        rows = {unit: min(most, -(-shape.rows // layer.groups)) for unit, layer in kv.items()}
        for unit, seconds in self.costs.some_s(rows, shape).items():
            compute_s[unit] = seconds
        return compute_s

    def simulated_s(self, loads: Sequence[SweepLoad]) -> list[float]:
        """Seconds of sweeps that follow one another, the whole ring read ahead."""
        way = self.ring_bytes, self.in_flight_bytes
        return sweep_seconds(loads, self.streamed_bytes, *way, self.spill.ring_blocks)

    def waiting(self, shape: SweepShape) -> StepTime:
        """One of many sweeps alike, simulated: with a ring that makes transfers wait."""
        load = self.load(shape)
        return load.step_time(self.simulated_s([load, load])[-1])

    def _gather_s(self, shape: SweepShape, found: Disturbance) -> float:
        """What embedding rows that are read from disk add to the first unit."""
        if self.rows_in_memory:
            return 0.0
        return self._gather.seconds(shape.rows, self.micro_batch_tokens, found.disk_busy_frac)

    @lazy
    def _spilled(self) -> SpillCosts:
        return SpillCosts(self.costs.model, self.profile, self.spill, self.read_block_bytes)

    def _overhead_s(self, shape: SweepShape) -> float:
        cpu, vocab_size = self.profile.cpu, self.costs.model.config.vocab_size
        more_s = max(-(-shape.rows // self.micro_batch_tokens) - 1, 0) * cpu.micro_batch_s
        more_s += (shape.rows - shape.sequences) * cpu.row_s + shape.prompts * cpu.prompt_s
        if self.spill.layers:
            more_s += staging_s(self._spilled, shape, cpu, self._python_frac)
        fixed_s = self._fixed_s(shape)
        engine_s = overhead_s(cpu, vocab_size, shape, self.sampling_threads, fixed_s)
        return more_s + engine_s + self._held_up_s(shape, more_s + engine_s)

    def _fixed_s(self, shape: SweepShape) -> float:
        """What the engine takes whatever the sequences; prompts find nothing of it in a cache."""
        cpu, costs = self.profile.cpu, self.costs
        if not shape.is_decode:
            return cpu.sweep_s
        if self.streamed and not self.spill.layers:
            return cpu.sweep_s * (cpu.cached_overhead_frac if costs.stays(shape) else 1.0)
        return cpu.sweep_s if costs.keeps_nothing else fixed_s(cpu, costs.used_bytes(shape))

    def _held_up_s(self, shape: SweepShape, engine_s: float) -> float:
        """What is lost to threads that hand over blocks, while the CPU works."""
        block_s = self.profile.disk_read.block_s
        if not block_s:
            return 0.0
        blocks = self._weight_blocks
        if self.spill.layers:
            blocks += runs_of_kv(self._spilled, shape)
        if not blocks:
            return 0.0
        return self._lost_s(shape, engine_s, self._python_frac * blocks * block_s)

    def _lost_s(self, shape: SweepShape, engine_s: float, handing_s: float) -> float:
        """What hand-overs that take `handing_s` cost who works meanwhile.

        Decode is replayed in few calls: of it only what Python does is held up. Kernels of prompts
        are, too: each has to get the interpreter back, and waits for the thread that made room for
        a reader. What products lose to reads in any case is in the disturbance.
        """
        in_python_s = handing_s * self._python_share(shape, engine_s)
        if shape.is_decode:
            return in_python_s
        disk_s = self._undisturbed_disk_s
        busy_s = self.costs.total_s(shape, self.micro_batch_tokens) + engine_s
        loss = 1 / self.profile.interference.compute_while_reading_frac - 1
        more_s = (handing_s - disk_s * loss) * busy_s / max(disk_s, busy_s)
        return max(more_s, in_python_s)

    def _python_share(self, shape: SweepShape, engine_s: float) -> float:
        """The share of the time in which no kernel runs, of that in which the CPU works."""
        fixed_s = self.costs.total_fixed_s(shape, self.micro_batch_tokens)
        busy_s = self.costs.total_s(shape, self.micro_batch_tokens)
        return (fixed_s + engine_s) / (busy_s + engine_s)

    @property
    def _python_frac(self) -> float:
        """What Python takes, of what it does after weights that fill the last-level cache."""
        return self.profile.cpu.cached_overhead_frac if self.costs.cached else 1.0
