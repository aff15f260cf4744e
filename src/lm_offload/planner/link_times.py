"""Seconds of what crosses the link of a device in a sweep: units that are uploaded, and logits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lm_offload.hardware.profile import Link
from lm_offload.planner.lazy import lazy
from lm_offload.planner.link_disturbance import losses_of
from lm_offload.planner.sweep_shape import SweepShape
from lm_offload.planner.sweep_time import SweepTimes
from lm_offload.planner.unit_work import F32_BYTES
from lm_offload.units import MIB


@dataclass(frozen=True)
class LinkTimes(SweepTimes):
    """Sweeps whose units are computed on a device, to which `uploaded` ones are copied."""

    uploaded: frozenset[int] = frozenset()
    device_ring_bytes: int = 0

    @property
    def reads_wait(self) -> bool:
        """Never: sums of steady sweeps stand for all that are beside a device."""
        return False

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
        return self.device_ring_bytes >= 2 * max(self.uploaded_bytes.values(), default=0)

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

    def _download_s(self, shape: SweepShape) -> float:
        return self._links[0].transfer_s(
            shape.logit_rows * self.costs.model.config.vocab_size * F32_BYTES
        )
