"""Links of a stand-in: both directions, staged and pinned, beside the CPU and the disk."""

from __future__ import annotations

from dataclasses import replace
from threading import Lock
from time import sleep

import pytest

from lm_offload.device.stand_in import StandIn
from lm_offload.hardware.device_probe import DeviceProbe
from lm_offload.hardware.link_interference import LinkInterference
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.hardware.profile_text import profile_from_dict, profile_to_dict
from lm_offload.hardware.together import left_of_each
from lm_offload.kernels.torch_kernels import TorchKernels
from lm_offload.units import MIB
from tests.planner.machines import PLAIN

RATE = 1e8  # slow enough that what the machine does else is not seen


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


def test_links_are_measured_in_both_directions_and_staged(weights):
    """What else the machine does only lowers a rate: the best of three is the link's."""
    several = [probed(True, weights) for _ in range(3)]

    def best(name: str) -> float:
        return max(getattr(found, name).bytes_per_s.rates[0] for found in several)

    assert best("h2d") == pytest.approx(RATE, rel=0.3)
    assert best("h2d_staged") == pytest.approx(RATE, rel=0.4)
    assert best("host_copy") == pytest.approx(RATE / 2, rel=0.3)
    found = several[0]
    for link in (found.h2d, found.d2h, found.host_copy, found.d2h_pageable):
        assert all(0 < frac <= 1 for frac in link.opposed_frac.rates)
    assert found.h2d != found.h2d_staged
    assert found.link_interference != LinkInterference()
    assert profile_from_dict(profile_to_dict(found), "a test") == found


def test_uploads_are_taken_to_be_staged_where_nothing_can_be_pinned(weights):
    found = probed(False, weights)
    assert found.h2d == found.h2d_staged


def test_two_that_need_the_same_leave_one_another_half():
    one = Lock()

    def work() -> None:
        with one:
            sleep(2e-3)

    fracs = left_of_each(work, work, 0.1)
    assert sum(fracs) == pytest.approx(1.0, abs=0.3)
    assert min(left_of_each(lambda: sleep(2e-3), lambda: sleep(2e-3), 0.1)) > 0.7


def test_without_a_file_nothing_is_known_of_the_disk():
    left = probed(True, None).link_interference
    assert left == replace(left, upload_while_reading_frac=1.0, disk_read_while_uploading_frac=1.0)
