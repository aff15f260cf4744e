"""How transfers, reads and the CPU slow one another in sweeps of a device."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lm_offload.hardware.curve import Curve
from lm_offload.hardware.link import Link
from lm_offload.hardware.link_interference import LinkInterference
from lm_offload.hardware.machine_file import load_machine
from lm_offload.hardware.profile import Interference
from lm_offload.plan import Workload
from lm_offload.planner.choose.common import Common
from lm_offload.planner.choose.predictor import Predictor
from lm_offload.planner.choose.search import candidates
from lm_offload.planner.costs.sweep_shape import Piece, SweepShape
from lm_offload.planner.places.candidate import Candidate
from lm_offload.planner.request import DeviceBudget
from lm_offload.planner.sweeps.device_load import DeviceSweepLoad
from lm_offload.planner.sweeps.host_load import HostLoad
from lm_offload.planner.sweeps.link_disturbance import (
    ATTEND,
    DISK,
    DOWN,
    UP,
    compute_loss,
    losses_of,
    shared,
    slower,
)
from lm_offload.schedule.device_sweep import Transfers
from lm_offload.units import MIB
from tests.planner.device_simulation import device_sweep_seconds
from tests.planner.machines import PLAIN
from tests.planner.requests import make_request
from tests.planner.test_stages import SMALL

HALVES = LinkInterference(upload_while_attending_frac=0.5, attend_while_uploading_frac=0.8)


def link(frac: float) -> Link:
    return Link(Curve((1.0,), (1e9,)), opposed_frac=Curve((1.0, 2.0 * MIB), (frac, 1.0)))


def test_what_works_all_the_time_slows_the_other_all_the_time():
    losses = {(UP, ATTEND): 1.0, (ATTEND, UP): 0.25}
    found = slower((0.0, 1.0, 0.0, 1.6, 0.0), 0.0, losses)
    assert found[UP] == pytest.approx(2.0)
    assert found[ATTEND] == pytest.approx(1.25)
    assert found[DISK] == 1.0


def test_what_works_for_a_tenth_of_the_sweep_slows_a_tenth_of_it():
    found = slower((0.0, 1.0, 0.0, 0.1, 0.0), 0.0, {(UP, ATTEND): 1.0})
    assert found[UP] == pytest.approx(1.1, abs=0.02)
    idle = slower((0.0, 1.0, 0.0, 0.1, 0.0), 10.0, {(UP, ATTEND): 1.0})
    assert idle[UP] == pytest.approx(1.01, abs=0.001)


def test_nothing_slows_what_is_alone():
    assert slower((0.0, 1.0, 0.0, 0.0, 0.0), 1.0, {(UP, ATTEND): 9.0}).factors == (1.0,) * 5
    assert slower((1.0,) * 5, 1.0, {}).factors == (1.0,) * 5


def test_losses_are_those_of_the_profile():
    machine = replace(
        PLAIN,
        h2d=link(0.5),
        d2h=link(0.8),
        link_interference=HALVES,
        interference=Interference(0.5, 1.0),
    )
    losses = losses_of(machine, 1.0, 1.0)
    assert losses[UP, DOWN] == pytest.approx(1.0)
    assert losses[DOWN, UP] == pytest.approx(0.25)
    assert losses[UP, ATTEND] == pytest.approx(1.0)
    assert losses[DISK, ATTEND] == pytest.approx(1.0)
    assert (ATTEND, DISK) not in losses
    assert (UP, DOWN) not in losses_of(machine, 2.0 * MIB, 1.0)


def test_products_on_the_cpu_share_memory_where_nobody_measured_more():
    assert compute_loss(PLAIN, 5e9) == pytest.approx(0.5)
    measured = LinkInterference(compute_while_uploading_frac=0.8)
    assert compute_loss(replace(PLAIN, link_interference=measured), 5e9) == pytest.approx(0.25)


def test_a_load_is_slowed_by_resource():
    host = HostLoad(1, [2, 1], [0.4, 0.0], 0.5, down_s=0.1, up_s=0.1)
    load = DeviceSweepLoad([1.0, 1.0], {1: 3.0}, 0.0, 0, upload_s={1: 2.0}, host=host)
    assert load.alone_s == pytest.approx((3.0, 2.0, 0.2, 0.4, 0.0))
    losses = {(UP, DISK): 1.0, (ATTEND, UP): 1.0, (DOWN, UP): 1.0}
    found = load.slowed(slower(load.alone_s, 0.0, losses))
    assert found.h2d_s == pytest.approx(4.0, rel=0.1)
    assert found.disk_s == 3.0
    assert found.host.attend_s == pytest.approx(0.8, rel=0.1)
    assert found.host.down_s == pytest.approx(0.2, rel=0.1)
    assert found.compute_s == load.compute_s


def test_uploads_leave_the_link_to_what_comes_back():
    assert 2.0 * shared(2.0, 1.0, least_s=0.0) == pytest.approx(3.0)
    assert 2.0 * shared(2.0, 1.0, least_s=6.0) == pytest.approx(2.4)  # a sixth of the time
    assert shared(2.0, 0.0, 6.0) == shared(0.0, 1.0, 6.0) == 1.0


def test_a_load_counts_both_on_one_link():
    host = HostLoad(1, [2, 1], [0.4, 0.0], 0.5, down_s=0.1, up_s=0.25)
    load = DeviceSweepLoad([1.0, 1.0], {}, 0.0, 0, upload_s={1: 4.0}, host=host)
    assert load.beside_copies().h2d_s == pytest.approx(4.5)
    alone = replace(load, host=None)
    assert alone.beside_copies() is alone


MACHINE = load_machine(Path(__file__).parents[1] / "device_machine.yaml")
DISTURBED = LinkInterference(0.6, 0.7, 0.5, 0.8, 0.9, 0.6)


def candidates_of(attention: str) -> tuple[Predictor, list[Candidate]]:
    assert MACHINE.h2d is not None
    opposed = Curve((1.0,), (0.7,))
    machine = replace(
        MACHINE,
        link_interference=DISTURBED,
        h2d=replace(MACHINE.h2d, opposed_frac=opposed),
        d2h=replace(MACHINE.d2h or MACHINE.h2d, opposed_frac=opposed),
    )
    request = make_request(SMALL, Workload((40,) * 8, (16,) * 8), 600 * MIB, machine)
    device = DeviceBudget("null:1", 400 * MIB, attention=attention)
    request = replace(request, device=device)
    return Predictor(request, Common()), [*candidates(request)][::25]


@pytest.mark.parametrize("attention", ["device", "cpu", "both"])
def test_slowed_sweeps_take_as_long_by_recurrence_as_by_their_tasks(attention):
    predictor, found = candidates_of(attention)
    undisturbed = Predictor(replace(predictor.request, profile=MACHINE), Common())
    slower_s = []
    for candidate in found:
        times, shape = predictor.times(candidate), SweepShape((Piece(8, 1, 48),), 8)
        assert times.steady_s(shape) == pytest.approx(times.steady(shape).total_s)
        slower_s.append(times.steady_s(shape) - undisturbed.times(candidate).steady_s(shape))
        if candidate.device.in_place:
            continue
        transfers = Transfers(
            times.streamed_bytes, times.uploaded_bytes, times.ring_bytes, times.device_ring_bytes
        )
        loads = [times.load(shape)] * 3
        assert times.simulated_s(loads) == pytest.approx(
            device_sweep_seconds(loads, transfers, times.on_host)
        )
        assert (times.load(shape).wait_s > 0) == bool(candidate.uploaded)
    assert min(slower_s) > -1e-9
    assert max(slower_s) > 0
