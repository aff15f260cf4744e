"""The model's own thread: requests come in, sweeps run, what they give goes out.

It is the main thread of a process that serves, the one that Ctrl-C interrupts in a sweep::

    handlers    submit   cancel              submit
                   |        |                   |            commands, taken between two sweeps
    worker      ...| sweep  | sweep   (waits)   | sweep  | sweep
                        |        |                   |       deltas, by the ticket's `deliver`
    handlers          text     text                text
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Condition
from typing import TypeVar

from lm_offload.engine.llm import LLM
from lm_offload.engine.open_run import Delta, OpenRun
from lm_offload.engine.prompt_forms import PlainPrompt
from lm_offload.errors import LMOffloadError, RequestError
from lm_offload.plan import Workload
from lm_offload.sampling import SamplingParams
from lm_offload.server.errands import Errands
from lm_offload.server.metrics import Metrics

log = logging.getLogger(__name__)

T = TypeVar("T")
Event = Delta | LMOffloadError
_CLOSING = "The server is closing; send the request again later."
MakePrompt = Callable[[], PlainPrompt]  # of the model's thread: what needs the tokenizer


@dataclass(eq=False)
class Ticket:
    """One prompt on its way; `deliver` is called by the worker's thread and must not wait."""

    prompt: MakePrompt
    params: SamplingParams
    deliver: Callable[[Event], None]
    arrival_s: float = field(default_factory=time.perf_counter)
    last_token_s: float | None = None
    unfinished: int = 0  # completions


class Worker:
    """Serves until it is closed; an error in a sweep ends the requests that are in it."""

    def __init__(self, llm: LLM, workload: Workload, metrics: Metrics, max_waiting: int) -> None:
        """`max_waiting` requests may be under way beside those that `workload` counts."""
        self.llm = llm
        self._workload = workload
        self._metrics = metrics
        self.most = max_waiting + len(workload.prompt_lens)  # prompts under way at once
        self._tickets: dict[int, Ticket] = {}  # by their number in the run
        self._joining: deque[Ticket] = deque()  # each until it is in the run
        self._leaving: deque[Ticket] = deque()
        self._changed = Condition()
        self._errands = Errands(self._changed)
        self._closed = False

    @property
    def is_open(self) -> bool:
        """Whether requests are served."""
        return not self._closed

    def has_room(self, count: int) -> bool:
        """Whether so many requests more may wait."""
        return len(self._tickets) + len(self._joining) + count <= self.most

    def submit(self, tickets: Iterable[Ticket]) -> None:
        """Let prompts join before the next sweep; once it is closed, they are told so."""
        with self._changed:
            if not self._closed:
                self._joining.extend(tickets)
                self._changed.notify()
                return
        _tell(tickets, LMOffloadError(_CLOSING))

    def cancel(self, tickets: Iterable[Ticket]) -> None:
        """Nobody waits for these any more; those that are finished are left alone."""
        with self._changed:
            self._leaving.extend(tickets)
            self._changed.notify()

    def ask(self, call: Callable[[], T]) -> Future[T]:
        """What `call` gives in the model's thread, after the sweep that runs."""
        with self._changed:
            result = self._errands.add(call)
            if self._closed:
                self._errands.fail(LMOffloadError(_CLOSING))
            self._changed.notify()
        return result

    def close(self) -> None:
        """End after the sweep that runs; who still waits is told so."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def run(self) -> None:
        """Serve until `close`, by another thread, or an interruption."""
        try:
            while self._wait_for_one():
                try:
                    with self.llm.open_run(self._workload) as run:
                        self._serve(run)
                except LMOffloadError as error:
                    log.error("%s", error)
                    self._fail_all(error)
        finally:
            self.close()
            self._fail_all(LMOffloadError(_CLOSING))

    def _wait_for_one(self) -> bool:
        """Wait for a request; after an error it loads the model again. False when closed."""
        while not (self._joining or self._closed):
            with self._changed:
                self._changed.wait_for(lambda: self._joining or self._errands or self._closed)
            self._errands.run()
        return not self._closed

    def _serve(self, run: OpenRun) -> None:
        while not run.is_worn:
            leaving = self._who_leaves(wait=not run.has_work)
            if self._closed:
                return
            self._let_join(run)
            self._let_leave(run, leaving)
            if run.has_work:
                self._sweep(run)

    def _who_leaves(self, wait: bool) -> list[Ticket]:
        """Who joined before they left is still among `_joining`."""
        with self._changed:
            if wait:
                self._changed.wait_for(self._is_wanted)
        self._errands.run()
        with self._changed:
            taken = list(self._leaving)
            self._leaving.clear()
        return taken

    def _is_wanted(self) -> bool:
        return bool(self._joining or self._leaving or self._errands or self._closed)

    def _let_join(self, run: OpenRun) -> None:
        """Each waits until it is in the run: what ends the run meanwhile is told to it, too."""
        while self._joining:
            self._join(run, self._joining[0])
            self._joining.popleft()
        self._metrics.on_requests(len(self._tickets))

    def _join(self, run: OpenRun, ticket: Ticket) -> None:
        try:
            number = run.add(ticket.prompt(), ticket.params)
        except RequestError as error:
            ticket.deliver(error)
            return
        ticket.unfinished = ticket.params.n
        self._tickets[number] = ticket

    def _let_leave(self, run: OpenRun, tickets: Iterable[Ticket]) -> None:
        numbers = {ticket: number for number, ticket in self._tickets.items()}
        for ticket in tickets:
            if ticket in numbers:
                run.cancel(numbers[ticket])
                del self._tickets[numbers[ticket]]
        self._metrics.on_requests(len(self._tickets))

    def _sweep(self, run: OpenRun) -> None:
        deltas = run.step()
        self._metrics.on_sweep(run.sweep)
        for delta in deltas:
            ticket = self._tickets[delta.request]
            self._metrics.on_tokens(ticket, len(delta.token_ids))
            ticket.deliver(delta)
            ticket.unfinished -= delta.finish_reason is not None
            if not ticket.unfinished:
                del self._tickets[delta.request]
        self._metrics.on_requests(len(self._tickets))

    def _fail_all(self, error: LMOffloadError) -> None:
        with self._changed:
            concerned = [*self._tickets.values(), *self._joining]
            for kept in (self._tickets, self._joining, self._leaving):
                kept.clear()
            self._errands.fail(error)
        _tell(concerned, error)


def _tell(tickets: Iterable[Ticket], error: LMOffloadError) -> None:
    for ticket in tickets:
        ticket.deliver(error)
