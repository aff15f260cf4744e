"""What the KV cache on disk costs in a sweep: bytes and seconds of reads and writes of each group.

::

    read    blocks that were full before, from the window's first on / B_disk(run of a sequence)
            or of a group / B_burst / groups in the ring, if longer
    write   blocks that become full / B_write
    groups  sequences in flight / sequences whose contexts fit a group

A run is cut into reads of at most the block size of weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from lm_offload.hardware.profile import HardwareProfile
from lm_offload.kvcache.cache import blocks_for
from lm_offload.kvcache.spilled_size import spilled_block_bytes
from lm_offload.plan import KVSpill
from lm_offload.planner.costs.disk_cost import read_s
from lm_offload.planner.costs.model_sizes import ModelSizes
from lm_offload.planner.costs.sweep_shape import Piece, SweepShape
from lm_offload.quant.kv_format import BLOCK_TOKENS
from lm_offload.schedule.kv_staging import KVGroup

MOST_SIMULATED = 8  # groups of a layer; more are simulated as this many


@dataclass(frozen=True)
class LayerReads:
    """One layer of a sweep, its groups being alike."""

    groups: int
    group_blocks: float  # of one group's place in the ring
    read_bytes: float
    read_s: float
    write_bytes: float
    write_s: float
    runs: float = 0.0  # transfers that the reads are cut into

    def slower(self, factor: float) -> LayerReads:
        """With reads that are disturbed."""
        return replace(self, read_s=self.read_s * factor)

    @property
    def sizes(self) -> list[KVGroup]:
        """The groups as the schedule takes them, each computed at once; many small ones as few."""
        parts = min(self.groups, MOST_SIMULATED)
        blocks = max(math.ceil(self.group_blocks * self.groups / parts), 1)
        group = KVGroup(blocks, 1, int(self.read_bytes / parts), int(self.write_bytes / parts))
        return [group] * parts


def slower_layers(layers: Mapping[int, LayerReads], factor: float) -> dict[int, LayerReads]:
    """All layers with reads that are disturbed; most of them are one record."""
    records = {id(layer): layer for layer in layers.values()}
    slower = {key: layer.slower(factor) for key, layer in records.items()}
    return {unit: slower[id(layer)] for unit, layer in layers.items()}


@dataclass(frozen=True)
class SpillCosts:
    """Costs of the layers whose cache lies on disk, by their units."""

    model: ModelSizes
    profile: HardwareProfile
    spill: KVSpill
    read_block_bytes: int

    def layers(self, shape: SweepShape) -> dict[int, LayerReads]:
        """By unit, in order."""
        windows = self.windows
        by_window = {window: self.layer(shape, window) for window in {*windows.values()}}
        return {unit: by_window[window] for unit, window in windows.items()}

    @cached_property
    def windows(self) -> Mapping[int, int | None]:
        """Of these layers, by unit, in order."""
        layers, wanted = self.model.config.layers, set(self.spill.layers)
        return {
            number: layers[sized.unit.index].window
            for number, sized in enumerate(self.model.units)
            if sized.unit.kind == "attention" and sized.unit.index in wanted
        }

    def layer(self, shape: SweepShape, window: int | None) -> LayerReads:
        """Any of those with this window."""
        block_bytes = spilled_block_bytes(self.model.config, self.model.kv_format)
        groups = sum(self._groups(piece) for piece in shape.pieces)
        staged = read_bytes = seconds = written = runs = 0.0
        for piece in shape.pieces:
            first, full = _first_block(piece, window), (piece.context - piece.rows) // BLOCK_TOKENS
            run_bytes = max(full - first, 0) * block_bytes
            staged += piece.sequences * (blocks_for(piece.context) - first)
            read_bytes += piece.sequences * run_bytes
            seconds += piece.sequences * self._run_s(run_bytes)
            runs += piece.sequences * math.ceil(run_bytes / self.read_block_bytes)
            written += piece.sequences * piece.rows / BLOCK_TOKENS * block_bytes
        write_s = self.profile.disk_write.transfer_s(written)
        read_s = max(seconds, groups * self._waited_s(read_bytes / groups))
        return LayerReads(groups, staged / groups, read_bytes, read_s, written, write_s, runs)

    def _waited_s(self, group_bytes: float) -> float:
        """Of a group whose reader was asleep until its place was free, as are those of the ring."""
        burst, spill = self.profile.disk_read.burst_bytes_per_s, self.spill
        if burst is None or not group_bytes:
            return 0.0
        return group_bytes / burst.at(group_bytes) / max(spill.ring_blocks // spill.group_blocks, 1)

    def _groups(self, piece: Piece) -> int:
        together = max(self.spill.group_blocks // blocks_for(piece.context), 1)
        return -(-piece.sequences // together)

    def _run_s(self, run_bytes: int) -> float:
        return read_s(self.profile.disk_read, run_bytes, self.read_block_bytes)


def _first_block(piece: Piece, window: int | None) -> int:
    """The block of the oldest position that the first row sees."""
    oldest = piece.context - piece.rows - window + 1 if window else 0
    return max(oldest, 0) // BLOCK_TOKENS
