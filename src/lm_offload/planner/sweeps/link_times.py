"""Seconds of what crosses the link of a device in a sweep: units that are uploaded, and logits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lm_offload.hardware.link import Link
from lm_offload.planner.costs.device_memory import upload_block_bytes
from lm_offload.planner.costs.sweep_shape import SweepShape
from lm_offload.planner.costs.unit_work import F32_BYTES
from lm_offload.planner.lazy import lazy
from lm_offload.planner.sweeps.link_disturbance import losses_of
from lm_offload.planner.sweeps.read_times import most_of_neighbours
from lm_offload.planner.sweeps.sweep_time import SweepTimes
from lm_offload.units import MIB

BLOCKS_AHEAD = 1.5  # of two on the link, that a copy finds before it in the mean


@dataclass(frozen=True)
class LinkTimes(SweepTimes):
    """Sweeps whose units are computed on a device, to which `uploaded` ones are copied."""

    uploaded: frozenset[int] = frozenset()
    device_ring_bytes: int = 0

    def _lost_s(self, shape: SweepShape, engine_s: float, handing_s: float) -> float:
        """Kernels run on the device: blocks hold up what Python does beside them."""
        return handing_s * self._python_share(shape, engine_s)

    @lazy
    def _links(self) -> tuple[Link, Link]:
        """Down and up."""
        down, up = self.profile.d2h or self.profile.h2d, self.profile.h2d
        assert down is not None
        assert up is not None
        return down, up

    @lazy
    def _losses(self) -> dict[tuple[int, int], float]:
        blocks = (float(link.block_bytes or MIB) for link in reversed(self._links))
        return losses_of(self.profile, *blocks)

    @lazy
    def uploaded_bytes(self) -> Mapping[int, int]:
        """What is copied of which units, in order of use."""
        return self.costs.model.sizes_of(self.uploaded)

    @lazy
    def uploads_ahead(self) -> bool:
        """Whether the device's ring holds a unit that is uploaded beside one that is computed."""
        return self.device_ring_bytes >= most_of_neighbours(self.uploaded_bytes)

    @lazy
    def _uploads_s(self) -> dict[int, float]:
        return {unit: self._upload_s[size] for unit, size in self.uploaded_bytes.items()}

    @lazy
    def _undisturbed_link_s(self) -> float:
        return self._link_s_of(self.uploaded)

    def _link_s_of(self, units: frozenset[int]) -> float:
        """Uploads of some units together."""
        sorts, seconds = self.costs.model.sorts, self._upload_s
        counts = sorts.counts_of(units)
        return sum(count * seconds[sorts.examples[sort].size_bytes] for sort, count in counts)

    @lazy
    def _upload_s(self) -> dict[int, float]:
        """By size of a unit."""
        _, link = self._links
        return {size: link.transfer_s(size) for size in {*self.uploaded_bytes.values()}}

    @lazy
    def _blocks_s(self) -> float:
        """Blocks of uploads that a copy from the CPU finds on the link."""
        wanted_bytes = self._links[1].block_bytes
        block_bytes = upload_block_bytes(self.costs.model, wanted_bytes)
        return BLOCKS_AHEAD * block_bytes / self._link_bytes_per_s

    @lazy
    def _link_bytes_per_s(self) -> float:
        link = self._links[1]
        return link.bytes_per_s.at(link.block_bytes or max(self.uploaded_bytes.values(), default=1))

    def _download_s(self, shape: SweepShape) -> float:
        return self._links[0].transfer_s(
            shape.logit_rows * self.costs.model.config.vocab_size * F32_BYTES
        )
