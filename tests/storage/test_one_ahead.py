"""Things that are made one ahead come in order, and their errors where they would be used."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from lm_offload.storage.one_ahead import one_ahead


def nothing() -> None:
    pass


def test_all_come_in_order():
    assert list(one_ahead(iter(range(5)), nothing)) == [0, 1, 2, 3, 4]
    assert list(one_ahead(iter(()), nothing)) == []


def test_the_next_is_made_while_one_is_used():
    made = [threading.Event() for _ in range(3)]

    def items() -> Iterator[int]:
        for number, event in enumerate(made):
            event.set()
            yield number

    found = one_ahead(items(), nothing)
    assert next(found) == 0
    assert made[1].wait(10)
    assert not made[2].is_set()  # whose place may still be in use
    found.close()


def test_what_cannot_be_made_raises_where_it_would_be_used():
    def items() -> Iterator[int]:
        yield 1
        raise OSError("gone")

    found = one_ahead(items(), nothing)
    assert next(found) == 1
    with pytest.raises(OSError, match="gone"):
        next(found)


def test_its_thread_begins_as_asked():
    names = []
    list(one_ahead(iter([1]), lambda: names.append(threading.current_thread())))
    assert len(names) == 1
    assert names[0] is not threading.current_thread()
