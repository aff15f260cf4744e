"""Seconds of the experts of a layer: who is used is known when the router has been computed.

::

    disk_read   | ... attention of the next layers |  r1 |  r4 |
    cpu         | attention | router |  resident experts  | c1 |  c4 | attention ...

    begins    max(the router's end, the reads before)
    reads     idle + e f r   e = E (1 - (1 - k/E)^rows) used ones, f the share of them on disk
    computes  e c + e f h    beside the reads, but for the last one read
    h         blocks * block_s: threads that hand over blocks hold up who asks for kernels
"""

from __future__ import annotations

from dataclasses import dataclass

from lm_offload.planner.costs.expert_sizes import ExpertPlacement, ExpertSizes, used_frac
from lm_offload.planner.costs.sweep_shape import SweepShape
from lm_offload.planner.costs.unit_cost import UnitCosts


@dataclass(frozen=True)
class LayerExperts:
    """Those of the mean layer in one sweep; `last_s` is the compute of one that is read."""

    read_s: float
    read_bytes: float
    compute_s: float
    last_s: float
    waits: bool  # whether each read waits until the expert before it was computed

    def slower(self, cpu: float, disk: float) -> LayerExperts:
        """By these factors."""
        return LayerExperts(
            disk * self.read_s, self.read_bytes, cpu * self.compute_s, cpu * self.last_s, self.waits
        )

    @property
    def alone_s(self) -> float:
        """Of a layer with nothing beside it."""
        read_s = self.read_s + self.last_s if self.read_s else 0.0
        return self.read_s + self.compute_s if self.waits else max(read_s, self.compute_s)


@dataclass(frozen=True)
class ExpertTimes:
    """A placement of experts; `read_s` is the read of one that nothing disturbs.

    `idle_s`: what the first of a layer takes more; `held_up_s`: what each takes of the CPU.
    """

    costs: UnitCosts
    experts: ExpertSizes
    placement: ExpertPlacement
    read_s: float
    idle_s: float = 0.0
    held_up_s: float = 0.0

    def layer(self, shape: SweepShape, most: int) -> LayerExperts:
        """The mean layer of a sweep with at most `most` rows of a micro-batch."""
        config, total = self.costs.model.config, len(self.experts.units)
        used = config.num_experts * used_frac(config, shape.rows)
        read = used * (1 - len(self.placement.resident) / total)
        compute_s = self.costs.experts_s(shape, most) / config.mixture_layers
        return LayerExperts(
            read_s=read * self.read_s + min(read, 1.0) * self.idle_s,
            read_bytes=read * self.experts.total_bytes / total,
            compute_s=compute_s + read * self.held_up_s,
            last_s=min(read, 1.0) * (compute_s / used + self.held_up_s),
            waits=self.placement.ring_bytes < 2 * self.experts.largest_bytes,
        )
