"""What the event loop makes of the worker's events."""

from __future__ import annotations

import asyncio
from threading import Thread

import pytest

from lm_offload import SamplingParams
from lm_offload.engine.open_run import Delta
from lm_offload.errors import StorageError
from lm_offload.server.replies import choices_of


class Worker:
    """Delivers given deltas to the first ticket, from another thread."""

    def __init__(self, *deltas: Delta):
        self.deltas, self.cancelled = deltas, []

    def submit(self, tickets):
        deliver = tickets[0].deliver
        Thread(target=lambda: [deliver(delta) for delta in self.deltas]).start()

    def cancel(self, tickets):
        self.cancelled += tickets


def delta(text: str, reason=None, error=None, completion=0) -> Delta:
    return Delta(0, completion, text, [1], [], reason, 3, 0, error)


def collect(worker: Worker, n: int = 1) -> list[tuple[int, str]]:
    async def ask():
        async with choices_of(worker, [lambda: "x"], SamplingParams(n=n)) as choices:
            return [(choice.index, choice.delta.text) async for choice in choices]

    return asyncio.run(ask())


def test_every_completion_comes_to_its_end():
    worker = Worker(delta("a"), delta("b", "stop", completion=1), delta("c"), delta("d", "length"))
    assert collect(worker, n=2) == [(0, "a"), (1, "b"), (0, "c"), (0, "d")]
    assert len(worker.cancelled) == 1  # which a worker leaves alone, as it is finished


def test_a_completion_that_the_disk_lost_is_an_error_and_the_rest_is_cancelled():
    worker = Worker(delta("a"), delta("", "error", error="The disk is full; free some room."))
    with pytest.raises(StorageError, match="is full"):
        collect(worker)
    assert len(worker.cancelled) == 1
