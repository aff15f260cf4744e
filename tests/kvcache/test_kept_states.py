"""Slots for states behind prefixes: which are given up, and which never."""

from __future__ import annotations

from lm_offload.kvcache.kept_states import KeptStates


def keep(states: KeptStates, *keys: bytes) -> None:
    for key in keys:
        assert states.make(key, 0) is not None
        states.made(key)


def test_the_least_recently_used_is_given_up():
    states = KeptStates(2)
    keep(states, b"a", b"b")
    states.expect(b"a")
    states.leave(b"a")
    keep(states, b"c")
    assert [states.has(key) for key in (b"a", b"b", b"c")] == [True, False, True]
    assert states.num_kept == 2


def test_expected_ones_have_a_slot_whatever_else_is_kept():
    states = KeptStates(2)
    keep(states, b"a", b"b")
    states.expect(b"a")
    states.expect(b"later")
    assert not states.may_expect(b"one more")
    assert states.may_expect(b"later")
    assert states.make(b"c", 0) is None
    keep(states, b"later")
    assert [states.has(key) for key in (b"a", b"b", b"later")] == [True, False, True]
    states.leave(b"a")
    keep(states, b"c")
    assert not states.has(b"a")


def test_later_waves_read_what_is_in_making_and_others_do_not_lose_it():
    states = KeptStates(1)
    slot = states.make(b"a", 3)
    assert states.slot_of(b"a") == (slot, 4)
    assert states.make(b"b", 0) is None
    assert states.make(b"a", 3) is None
    states.made(b"a")
    assert states.slot_of(b"a") == (slot, 0)


def test_what_failed_or_is_forgotten_leaves_its_slot():
    states = KeptStates(1)
    states.make(b"a", 0)
    states.abandon(b"a")
    assert not states.has(b"a")
    keep(states, b"b")
    states.expect(b"b")
    states.forget(b"b")
    assert states.has(b"b")
    states.leave(b"b")
    states.forget(b"b")
    keep(states, b"c")
    assert not states.has(b"b")


def test_no_slots_keep_nothing():
    states = KeptStates(0)
    assert not states.may_expect(b"a")
    assert states.make(b"a", 0) is None
