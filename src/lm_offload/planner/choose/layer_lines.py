"""Layers in place in straight lines: what sweeps take at the share of them that balances all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from lm_offload.hardware.profile import HardwareProfile
from lm_offload.planner.choose.least_of_lines import Line, least_of_lines
from lm_offload.planner.sweeps.link_disturbance import compute_loss


class Layers(NamedTuple):
    """Seconds of both processors with nothing in place, and what all layers in place would add to
    the CPU and take from the device.
    """

    turns: int  # micro-batches that are told apart
    cpu_s: float
    device_s: float
    more_s: float
    fewer_s: float

    def of_cpu_s(self, frac: float, slower: float = 1.0) -> float:
        """The CPU, with so much of the layers in place."""
        return self.cpu_s + slower * frac * self.more_s

    def of_both_s(self, frac: float, slower: float = 1.0) -> float:
        """Both processors, as far as micro-batches hide one behind the other."""
        cpu_s = self.of_cpu_s(frac, slower)
        return (cpu_s + self.device_s - frac * self.fewer_s) / self.turns


class Away(NamedTuple):
    """Bytes without a home on the device while nothing is in place, and how many fewer with every
    layer; some leave with their attention alone.
    """

    homeless: float
    layers: float
    attention: float


def least_of_shares_s(
    profile: HardwareProfile, layers: Layers, away: Away, trips_s: Sequence[float] = (0.0, 0.0)
) -> float:
    """With the best share in place, with and without uploads beside it.

    A micro-batch takes `trips_s` to the CPU and back, with and without uploads, less what is left
    to layers in place, which may be their attention alone.
    """
    assert profile.h2d is not None
    rates, homeless = profile.h2d.bytes_per_s.rates, away.homeless / away.layers
    all_s, slower = away.layers / max(rates), 1 + compute_loss(profile, min(rates))
    moved = Line(homeless * all_s, (homeless - 1) * all_s)
    beside, alone = (
        _lines(layers, by, way_s, away) for by, way_s in zip((slower, 1.0), trips_s, strict=True)
    )
    moving_s = least_of_lines((moved, *beside), 0.0, min(homeless, 1.0))
    return min(moving_s, least_of_lines(alone, homeless, 1.0) if homeless <= 1 else math.inf)


def _lines(layers: Layers, slower: float, trips_s: float, away: Away) -> tuple[Line, Line, Line]:
    """The CPU, both processors, and what one micro-batch passes through."""
    cpu, both = (
        Line(work(0.0, slower), work(1.0, slower)) for work in (layers.of_cpu_s, layers.of_both_s)
    )
    fewer_s = trips_s * away.layers / away.attention if trips_s else 0.0
    return cpu, both, Line(both.none_s + trips_s, both.every_s + trips_s - fewer_s)
