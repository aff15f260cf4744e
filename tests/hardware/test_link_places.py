"""Links of a stand-in: both directions, staged and pinned, beside the CPU and the disk."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from threading import Barrier

import pytest
import torch

from lm_offload.device import worker_stream
from lm_offload.device.stand_in import PAGEABLE_FRAC, StandIn
from lm_offload.hardware import interference_probe, timing
from lm_offload.hardware.device_probe import DeviceProbe
from lm_offload.hardware.link_interference import LinkInterference
from lm_offload.hardware.link_places import LinkPlaces
from lm_offload.hardware.link_probe import measure_link
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.hardware.profile_text import profile_from_dict, profile_to_dict
from lm_offload.hardware.together import left_of_each
from lm_offload.kernels.torch_kernels import TorchKernels
from lm_offload.units import KIB, MIB
from tests.clock import FakeClock, fake_clock
from tests.planner.machines import PLAIN

RATE = 1e8


@pytest.fixture
def weights(tmp_path):
    file = tmp_path / "weights"
    file.write_bytes(bytes(MIB))
    return file


def probed(pins: bool, weights) -> HardwareProfile:
    device = StandIn("standin:100MB/s", 8 * MIB, RATE, pins)
    try:
        return DeviceProbe(device, TorchKernels(1), MIB, 2 * MIB, weights).added_to(PLAIN, 0.2)
    finally:
        device.close()


def test_rates_are_those_of_links_that_are_pinned_staged_and_pageable(monkeypatch):
    """On a clock that only copies move, so that nothing else is seen."""
    fake_clock(monkeypatch, timing, worker_stream)
    device = StandIn("standin", 4 * MIB, RATE)
    places = LinkPlaces.taken(device, device.tier(2 * MIB).allocate("copies", MIB))
    links = places.links(0.1)
    device.close()
    assert places.is_pinned
    rates = {name: link.bytes_per_s.rates for name, link in links.items()}
    assert all(len(of_link) == 1 for of_link in rates.values())
    assert {name: of_link[0] for name, of_link in rates.items()} == pytest.approx(
        {
            "h2d": RATE,
            "d2h": RATE,
            "h2d_staged": RATE,  # one half is filled while the other is copied
            "host_copy": RATE * PAGEABLE_FRAC,
            "d2h_pageable": RATE * PAGEABLE_FRAC,
        }
    )


def test_links_are_measured_in_both_directions_and_beside_other_work(weights):
    found = probed(True, weights)
    for link in (found.h2d, found.d2h, found.host_copy, found.d2h_pageable):
        assert all(rate > 0 for rate in link.bytes_per_s.rates)
        assert all(0 < frac <= 1 for frac in link.opposed_frac.rates)
    assert found.h2d != found.h2d_staged
    assert found.link_interference != LinkInterference()
    assert profile_from_dict(profile_to_dict(found), "a test") == found


def test_uploads_are_taken_to_be_staged_where_nothing_can_be_pinned(weights):
    found = probed(False, weights)
    assert found.h2d == found.h2d_staged


class Pair:
    """Two works of a second on a clock of their own, each called alone and then beside the other.

    Those that meet wait for one another, which fails where they are called in turns.
    """

    def __init__(self, clock: FakeClock, share: bool) -> None:
        self._clock, self._share = clock, share
        self._meeting = Barrier(2, timeout=60)
        self.calls = [0, 0]

    def work(self, index: int) -> None:
        self.calls[index] += 1
        begin_s = self._clock.now_s
        if self.calls[index] == 1:
            return self._clock.sleep(1.0)
        self._meeting.wait()
        if self._share:
            self._clock.sleep(1.0)  # after that of the other, or before it
        else:
            self._clock.sleep_until(begin_s + 1.0)
        self._meeting.wait()


@pytest.mark.parametrize(("share", "left"), [(True, 0.5), (False, 1.0)])
def test_two_that_need_the_same_leave_one_another_half(monkeypatch, share, left):
    pair = Pair(fake_clock(monkeypatch, timing, interference_probe), share)
    assert left_of_each(partial(pair.work, 0), partial(pair.work, 1), 0.0) == (left, left)
    assert pair.calls == [2, 2]


def test_without_a_file_nothing_is_known_of_the_disk():
    left = probed(True, None).link_interference
    assert left == replace(left, upload_while_reading_frac=1.0, disk_read_while_uploading_frac=1.0)


def test_a_stall_leaves_the_rate_of_a_block() -> None:
    """Of a page alone it would be that of requests."""
    memory = torch.zeros(4 * MIB, dtype=torch.uint8)
    device = StandIn("standin", 8 * MIB, 1e12)
    link = measure_link(device.h2d, memory, memory.clone(), 0.0)
    device.close()
    assert link.bytes_per_s.sizes == (256 * KIB,)
    assert link.request_s == 0.0
