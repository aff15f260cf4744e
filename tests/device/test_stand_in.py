"""The stand-in: streams are ordered and run beside one another, events are real, links are slow."""

from __future__ import annotations

import threading

import pytest
import torch

from lm_offload.device.registry import open_device
from lm_offload.device.stand_in import StandIn
from lm_offload.errors import BudgetError
from lm_offload.units import MIB


@pytest.fixture
def device():
    opened = StandIn("standin", 64 * MIB, 1e9)
    yield opened
    opened.close()


def seconds_of(device: StandIn, source: torch.Tensor, target: torch.Tensor) -> float:
    start = device.h2d.record()
    device.h2d.copy_async(source, target)
    end = device.h2d.record()
    end.synchronize()
    return end.elapsed_s(start)


def test_a_stream_works_in_order_beside_the_caller(device):
    gate, done = threading.Event(), []
    device.compute.launch(gate.wait)
    device.compute.launch(lambda: done.append(1))
    event = device.compute.record()
    assert done == []
    gate.set()
    event.synchronize()
    assert done == [1]


def test_a_stream_waits_for_the_event_of_another(device):
    gate, order = threading.Event(), []
    device.h2d.launch(gate.wait)
    device.h2d.launch(lambda: order.append("copy"))
    device.compute.wait(device.h2d.record())
    device.compute.launch(lambda: order.append("kernel"))
    end = device.compute.record()
    gate.set()
    end.synchronize()
    assert order == ["copy", "kernel"]


def test_a_copy_takes_the_time_of_the_link_and_more_where_memory_is_pageable(device):
    source, target = torch.ones(4 * MIB, dtype=torch.uint8), torch.zeros(4 * MIB, dtype=torch.uint8)
    assert seconds_of(device, source, target) >= 2 * 4 * MIB / 1e9
    assert device.pin(source)
    assert seconds_of(device, source, target) >= 4 * MIB / 1e9
    assert torch.equal(source, target)


def test_streams_work_side_by_side(device):
    meeting = threading.Barrier(3)  # where each waits for the others
    for stream in (device.compute, device.h2d, device.d2h):
        stream.launch(lambda: meeting.wait(timeout=10))
    for stream in (device.compute, device.h2d, device.d2h):
        stream.record().synchronize()
    assert not meeting.broken


def test_an_error_reaches_all_who_wait(device):
    device.h2d.launch(lambda: 1 / 0)  # type: ignore[arg-type]
    with pytest.raises(ZeroDivisionError):
        device.h2d.record().synchronize()
    device.compute.wait(device.h2d.record())
    done = []
    device.compute.launch(lambda: done.append(1))
    with pytest.raises(ZeroDivisionError):
        device.compute.record().synchronize()
    assert done == []


def test_a_tier_never_gives_more_than_it_has(device):
    tier = device.tier(1 * MIB)
    assert device.memory().free_bytes == 63 * MIB
    first, second = tier.allocate("a", 5), tier.allocate("b", 4096)
    first.view(0, torch.uint8, (5,)).fill_(7)
    assert first.size_bytes == 4096
    assert not second.view(0, torch.int32, (1024,)).any()
    with pytest.raises(BudgetError, match=r"standin.* tier has 1016.00 KiB left, c needs 1.00 MiB"):
        tier.allocate("c", 1 * MIB)
    with pytest.raises(ValueError, match="view of"):
        second.view(4000, torch.float32, (100,))
    with pytest.raises(ValueError, match="at 4000 in an arena of 4096"):
        second.slice(4000, 100)


def test_names_say_rate_and_memory():
    device = open_device("standin:2GB/s:3MiB")
    assert device.memory().total_bytes == 3 * MIB
    device.close()
    null = open_device("null:5GiB")
    assert null.memory().free_bytes == 5 << 30
    assert null.tier(4096).allocate("anything", 4096).view(0, torch.float32, (1024,)).is_meta
