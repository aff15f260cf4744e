"""Captured units: replayed when they were seen to be right, launched as they are when not."""

from __future__ import annotations

import pytest
import torch

from lm_offload.device.stand_in import StandInGraph
from lm_offload.errors import DeviceError
from lm_offload.pipeline.captures import Captures

SEEN_FIRST = 2  # as it is, then beside its graph


class Played:
    """A device that takes down calls; `spoil` is added to what a replay computes."""

    def __init__(self, spoil: float = 0.0) -> None:
        self.spoil, self.taken, self.replayed = spoil, 0, 0
        self.hidden = torch.randn(2, 8)

    def capture(self, work):
        self.taken += 1
        return self if self.spoil else _Counted(self, StandInGraph(work))

    def replay(self):
        self.hidden += self.spoil


class _Counted:
    def __init__(self, played, graph):
        self._played, self._graph = played, graph

    def replay(self):
        self._played.replayed += 1
        self._graph.replay()


class Unit:
    """Adds one to the hidden states; counts how often Python came by."""

    def __init__(self, played: Played) -> None:
        self.hidden, self.calls = played.hidden, 0

    def __call__(self) -> None:
        self.calls += 1
        self.hidden += 1.0


def run(captures: Captures, unit: Unit, times: int, key: str = "unit") -> None:
    """Each time the result is that of one call."""
    for _ in range(times):
        unit.hidden.normal_()
        wanted = unit.hidden + 1.0
        captures.begin()
        captures.run(key, unit, unit.hidden)
        assert torch.equal(unit.hidden, wanted)


def test_a_unit_is_replayed_after_it_was_compared(caplog):
    played = Played()
    captures, unit = Captures(played.capture, 4), Unit(played)
    run(captures, unit, SEEN_FIRST + 3)
    assert played.taken == 1
    assert played.replayed == 1 + 3
    assert not caplog.records


def test_values_that_are_no_numbers_are_alike(caplog):
    played = Played()
    captures = Captures(played.capture, 4)
    for _ in range(SEEN_FIRST + 1):
        played.hidden.fill_(torch.nan)
        captures.run("unit", Unit(played), played.hidden)
    assert played.replayed == 1 + 1
    assert not caplog.records


def test_a_replay_that_differs_is_the_last_one(caplog):
    played = Played(spoil=0.5)
    captures, unit = Captures(played.capture, 4), Unit(played)
    run(captures, unit, 6)
    run(captures, unit, 3, "other")
    assert played.taken == 1
    assert unit.calls == 9
    assert len(caplog.records) == 1
    assert "a replay differed by up to 0.5" in caplog.text


@pytest.mark.parametrize("fails", [True, False])
def test_where_nothing_can_be_taken_down_it_is_said_once(caplog, fails):
    def capture(work):
        if fails:
            raise DeviceError("operation not permitted when stream is capturing")

    unit, captures = Unit(Played()), Captures(capture, 4)
    run(captures, unit, 4)
    assert unit.calls == 4
    assert len(caplog.records) == 1
    assert ("not permitted" if fails else "this device has none") in caplog.text


def test_other_batch_sizes_take_the_room_of_those_before():
    played = Played()
    captures, unit = Captures(played.capture, 2), Unit(played)
    for key in "ab":
        run(captures, unit, SEEN_FIRST, key)
    assert played.taken == 2
    run(captures, unit, 1 + SEEN_FIRST, "c")
    assert played.taken == 3
    run(captures, unit, SEEN_FIRST, "a")
    assert played.taken == 4


def test_what_has_moved_is_taken_down_anew():
    played = Played()
    captures, unit = Captures(played.capture, 4), Unit(played)
    run(captures, unit, SEEN_FIRST)
    captures.forget()
    run(captures, unit, SEEN_FIRST)
    assert played.taken == 2
