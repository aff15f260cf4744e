"""What no placement can beat: lower bounds on estimates, from bytes and computes alone.

::

    sweep >= max(computes + overhead, bytes that have no room in memory / fastest read)

Where keys and values may lie on disk, a byte there is read once in a sweep only if it is a token's
by then: `u` of the blocks of the cache are, so at least `u` times the bytes are read. Where none
does, blocks that are no token's yet may hold weights, which are then not read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from lm_offload.planner.device_bounds import NO_ROOM, Surplus, device_sweep_s, surplus_on_device
from lm_offload.planner.disturbance import disturbance
from lm_offload.planner.kv_lending import used_blocks
from lm_offload.planner.mean_sweeps import counted_s, waves_of
from lm_offload.planner.memory import Sizes, kv_bytes
from lm_offload.planner.predictor import Predictor
from lm_offload.planner.request import ModelSizes
from lm_offload.planner.sweep_shape import SweepShape
from lm_offload.planner.sweep_time import overhead_s
from lm_offload.quant.kv_format import BLOCK_TOKENS


@dataclass(frozen=True)
class Bounds:
    """Bounds on the estimates of one predictor."""

    predictor: Predictor

    def sizes_s(self, model: ModelSizes, sizes: Sizes, spilled: bool) -> float:
        """On every placement of these sizes; infinite where there is none."""
        return self._counted_s(model, sizes, self._surplus(model, sizes, spilled), spilled)

    def group_s(self, model: ModelSizes, options: Sequence[Sizes], spilled: bool) -> float:
        """On every placement of options that differ in rows alone, those with fewer rows first.

        Memory as of the fewest rows, computes as of the longest sweeps.
        """
        surplus = self._surplus(model, options[0], spilled)
        last = options[-1]
        longest = (
            sizes
            for sizes in options
            if (sizes.sweep_tokens, sizes.scored_rows) == (last.sweep_tokens, last.scored_rows)
        )
        return min(self._counted_s(model, sizes, surplus, spilled) for sizes in longest)

    def _surplus(self, model: ModelSizes, sizes: Sizes, spilled: bool) -> Surplus:
        request, other_bytes = self.predictor.request, self.predictor.common.other_bytes
        if request.device is not None:
            return surplus_on_device(request, model, sizes)
        room_bytes = request.budget_bytes - other_bytes(model, sizes, False)
        with_table_bytes = other_bytes(model, sizes, True) + model.table_bytes
        if model.units_bytes + with_table_bytes <= request.budget_bytes:
            return Surplus(0.0)
        if room_bytes + (kv_bytes(model, sizes) if spilled else 0) <= 0:
            return NO_ROOM
        return Surplus(max(model.units_bytes - room_bytes, 0))

    def _counted_s(self, model: ModelSizes, sizes: Sizes, surplus: Surplus, spilled: bool) -> float:
        request = self.predictor.request

        def sweep_s(shape: SweepShape) -> float:
            if request.device is not None:
                return device_sweep_s(self.predictor, model, sizes, shape, surplus)
            if spilled:
                read_bytes = _read_frac(model, sizes, shape) * surplus.read_bytes
            else:
                lent_bytes = _free_bytes(model, sizes, shape) / waves_of(request.workload, sizes)
                read_bytes = max(surplus.read_bytes - lent_bytes, 0.0)
            return self._sweep_s(model, sizes, shape, read_bytes)

        return math.inf if surplus == NO_ROOM else counted_s(request.workload, sizes, sweep_s)

    def _sweep_s(
        self, model: ModelSizes, sizes: Sizes, shape: SweepShape, read_bytes: float
    ) -> float:
        profile = self.predictor.request.profile
        costs = self.predictor.least_costs(model, sizes)
        cpu_s = costs.total_s(shape, sizes.micro_batch_tokens)
        disk_s = read_bytes / self._fastest_bytes_per_s
        found = disturbance(cpu_s, disk_s, profile.interference)
        threads = self.predictor.request.default_threads
        engine_s = overhead_s(profile.cpu, model.config.vocab_size, shape, threads.sampling)
        return max(found.slower_cpu * cpu_s + engine_s, found.slower_disk * disk_s)

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
