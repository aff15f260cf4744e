"""What no placement can beat: lower bounds on estimates, from bytes and computes alone.

::

    sweep >= max(computes + overhead, bytes that have no room in memory / fastest read)
    bytes that have no room  >=  weights + everything else - budget + the ring of what is streamed

Where keys and values may lie on disk, a byte there is read once in a sweep only if it is a token's
by then: `u` of the blocks of the cache are, so at least `u` times the bytes are read. Where none
does, blocks that are no token's yet may hold weights, which are then not read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from lm_offload.planner.choose.device_bounds import least_device_sweep
from lm_offload.planner.choose.placements import once_by_bytes
from lm_offload.planner.choose.predictor import Predictor
from lm_offload.planner.costs.expert_sizes import used_frac
from lm_offload.planner.costs.memory import Sizes, kv_bytes
from lm_offload.planner.costs.model_sizes import ModelSizes
from lm_offload.planner.costs.sweep_shape import SweepShape
from lm_offload.planner.places.host_placement import read_block_bytes
from lm_offload.planner.places.least_moved import least_gather_s
from lm_offload.planner.places.surplus import (
    NO_ROOM,
    Surplus,
    homeless_on_device,
    surplus_on_device,
    surplus_on_host,
)
from lm_offload.planner.sweeps.disturbance import disturbance
from lm_offload.planner.sweeps.engine_time import least_fixed_s, overhead_s
from lm_offload.planner.sweeps.kv_lending import used_blocks
from lm_offload.planner.sweeps.kv_reads import SpillCosts
from lm_offload.planner.sweeps.mean_sweeps import counted_s, waves_of
from lm_offload.planner.sweeps.spill_sums import spill_sums
from lm_offload.quant.kv_format import BLOCK_TOKENS

_SweepSeconds = Callable[[ModelSizes, Sizes, SweepShape, Surplus], float]


@dataclass(frozen=True)
class Bounds:
    """Bounds on the estimates of one predictor."""

    predictor: Predictor

    def sizes_s(self, model: ModelSizes, sizes: Sizes, spilled: bool) -> float:
        """On every placement of these sizes; infinite where there is none.

        `spilled`: with any layers of the cache on disk, which `sizes` do not name yet.
        """
        surplus = self._surplus(model, sizes, spilled)
        sweep_s = self._spilled_sweep_s if spilled else self._sweep_s
        return self._counted_s(model, sizes, surplus, sweep_s)

    def group_s(self, model: ModelSizes, options: Sequence[Sizes], spilled: bool) -> float:
        """On every placement of options that differ in rows alone, those with fewer rows first.

        Memory as of the fewest rows, computes as of the longest sweeps.
        """
        surplus = self._surplus(model, options[0], spilled)
        sweep_s = self._spilled_sweep_s if spilled else self._least_sweep_s
        last = options[-1]
        longest = (
            sizes
            for sizes in options
            if (sizes.sweep_tokens, sizes.scored_rows) == (last.sweep_tokens, last.scored_rows)
        )
        return min(self._counted_s(model, sizes, surplus, sweep_s) for sizes in longest)

    def _surplus(self, model: ModelSizes, sizes: Sizes, spilled: bool) -> Surplus:
        request, other_bytes = self.predictor.request, self.predictor.common.other_bytes
        if request.device is None:
            return surplus_on_host(request, model, sizes, spilled, other_bytes)
        homeless = once_by_bytes(
            self.predictor,
            model,
            ("homeless", sizes),
            lambda: homeless_on_device(request, model, sizes),
        )
        return surplus_on_device(request, model, homeless)

    def _counted_s(
        self, model: ModelSizes, sizes: Sizes, surplus: Surplus, sweep_s: _SweepSeconds
    ) -> float:
        workload = self.predictor.request.workload
        if surplus == NO_ROOM:
            return math.inf
        if self.predictor.request.device is None:
            return counted_s(workload, sizes, lambda it: sweep_s(model, sizes, it, surplus))
        return counted_s(workload, sizes, least_device_sweep(self.predictor, model, sizes, surplus))

    def _sweep_s(
        self, model: ModelSizes, sizes: Sizes, shape: SweepShape, surplus: Surplus
    ) -> float:
        """Where units are streamed, rows of a table of their own come from disk, too."""
        profile, moves = self.predictor.request.profile, surplus.read_s > 0
        disk, costs = profile.disk_read, self.predictor.least_costs(model, sizes, moves)
        kv = spill_sums(costs, self._spill_costs(model, sizes), shape, sizes.micro_batch_tokens)
        disk_s = self._read_s(model, sizes, shape, surplus) + kv.read_s
        gather_s = 0.0
        compute_s = kv.compute_s + costs.experts_s(shape, sizes.micro_batch_tokens)
        found = disturbance(compute_s, disk_s, profile.interference)
        if moves and model.table_bytes:
            rows = shape.rows, sizes.micro_batch_tokens
            gather_s = least_gather_s(model, disk, surplus.read, *rows, found.disk_busy_frac)
        cpu_s = found.slower_cpu * compute_s + gather_s
        return max(cpu_s + self._overhead_s(model, shape), found.slower_disk * disk_s, kv.write_s)

    def _least_sweep_s(
        self, model: ModelSizes, sizes: Sizes, shape: SweepShape, surplus: Surplus
    ) -> float:
        """The same without rows of the table, of which shorter sweeps may need fewer bytes."""
        read_s = self._read_s(model, sizes, shape, surplus)
        return self._disturbed_s(model, sizes, shape, read_s)

    def _read_s(
        self, model: ModelSizes, sizes: Sizes, shape: SweepShape, surplus: Surplus
    ) -> float:
        """What is streamed takes at least, where unused KV memory is lent to it."""
        if model.experts is not None:  # which may be all that has no room
            return surplus.read_s * used_frac(model.config, shape.rows)
        if sizes.spill.layers or not surplus.read.size_bytes:
            return surplus.read_s
        waves = waves_of(self.predictor.request.workload, sizes)
        lent_bytes = _free_bytes(model, sizes, shape) / waves
        return surplus.read_s * max(1.0 - lent_bytes / surplus.read.size_bytes, 0.0)

    def _spilled_sweep_s(
        self, model: ModelSizes, sizes: Sizes, shape: SweepShape, surplus: Surplus
    ) -> float:
        read_bytes = _read_frac(model, sizes, shape) * surplus.read.size_bytes
        return self._disturbed_s(model, sizes, shape, read_bytes / self._fastest_bytes_per_s)

    def _disturbed_s(
        self, model: ModelSizes, sizes: Sizes, shape: SweepShape, disk_s: float
    ) -> float:
        costs, most = self.predictor.least_costs(model, sizes), sizes.micro_batch_tokens
        cpu_s = costs.total_s(shape, most) + costs.experts_s(shape, most)
        found = disturbance(cpu_s, disk_s, self.predictor.request.profile.interference)
        beside_s = found.slower_cpu * cpu_s + self._overhead_s(model, shape)
        return max(beside_s, found.slower_disk * disk_s)

    def _spill_costs(self, model: ModelSizes, sizes: Sizes) -> SpillCosts:
        profile = self.predictor.request.profile
        return SpillCosts(model, profile, sizes.spill, read_block_bytes(profile.disk_read))

    def _overhead_s(self, model: ModelSizes, shape: SweepShape) -> float:
        """At least, of one micro-batch."""
        request = self.predictor.request
        cpu, vocab_size = request.profile.cpu, model.config.vocab_size
        least_s = least_fixed_s(cpu, model.units_bytes)
        return overhead_s(cpu, vocab_size, shape, request.default_threads.sampling, least_s)

    @cached_property
    def _fastest_bytes_per_s(self) -> float:
        return max(self.predictor.request.profile.disk_read.bytes_per_s.rates)


def _read_frac(model: ModelSizes, sizes: Sizes, shape: SweepShape) -> float:
    """The least share of a layer's blocks that a sweep reads."""
    windows = [layer.window or math.inf for layer in model.config.layers]
    blocks = sum(
        piece.sequences * (min(piece.context - piece.rows, *windows) // BLOCK_TOKENS)
        for piece in shape.pieces
    )
    return min(blocks / sizes.kv_blocks, 1.0)


def _free_bytes(model: ModelSizes, sizes: Sizes, shape: SweepShape) -> float:
    """Of a KV cache in memory, what a sweep does not use."""
    free_blocks = sizes.kv_blocks - used_blocks(shape, sizes.kv_blocks)
    return kv_bytes(model, sizes) * free_blocks / sizes.kv_blocks
