"""Two engines with their models loaded take turns, so that what drifts drifts for both."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from benchmarks.ceilings import RateMeter, Weights, ceilings, shares, weights_of
from benchmarks.peer_rows import RunFile, summary
from benchmarks.peers.case import Case, Row
from benchmarks.peers.environments import PeerSpec
from benchmarks.peers.run import Driver, Generate, failure
from benchmarks.peers.session import SessionError

WARM_UP_TOKENS = 2  # of the run after loading that is not counted
Enough = Callable[[PeerSpec], bool]  # whether a peer has had its rounds


@dataclass(frozen=True)
class Cell:
    """A case in one format, with our engine, where it takes part, and the others."""

    case: Case
    ours: PeerSpec | None
    others: tuple[PeerSpec, ...]

    @property
    def weight_format(self) -> str | None:
        """The format of all its engines."""
        return (self.ours or self.others[0]).weight_format


class CellTurns:
    """Takes the turns of one cell; our engine stays open from one peer to the next.

    The machine's rates are read anew before every round.
    """

    def __init__(self, driver: Driver, file: RunFile, cell: Cell) -> None:
        self._driver, self._file, self._cell = driver, file, cell
        self._stack = ExitStack()

    def __enter__(self) -> CellTurns:
        cell = self._cell
        limited = cell.case.limit_bytes is not None
        self._meter = RateMeter(cell.case.model, cell.weight_format, limited, cell.case.threads)
        self._weights: Weights = weights_of(cell.case.model, cell.weight_format)
        self._ours = self._open(cell.ours, self._stack) if cell.ours else None
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def take(self, spec: PeerSpec, enough: Enough) -> None:
        """Rounds of a peer and ours until there are enough or one fails; at least one."""
        with ExitStack() as stack:
            theirs = self._ours if spec == self._cell.ours else self._open(spec, stack)
            if theirs is None:
                return
            turns = [(spec, theirs)]
            if self._ours and self._cell.ours and spec != self._cell.ours:
                turns.append((self._cell.ours, self._ours))
            while self._round(turns, spec) and not enough(spec):
                turns.reverse()

    def _open(self, spec: PeerSpec, stack: ExitStack) -> Generate | None:
        """A peer that has run once, or None with its failure noted."""
        start_s = time.monotonic()
        try:
            generate = stack.enter_context(self._driver.opened(spec, self._cell.case))
            generate(WARM_UP_TOKENS)
        except SessionError as error:
            self._fail(spec, error)
            return None
        print(f"{spec.name} is ready after {time.monotonic() - start_s:.0f} s", flush=True)
        return generate

    def _round(self, turns: list[tuple[PeerSpec, Generate]], beside: PeerSpec) -> bool:
        """One run of each; whether all went well."""
        case, index = self._cell.case, self._file.next_round(self._cell.case)
        sizes = case.batch, case.prompt_len, case.limit_bytes
        found = ceilings(self._weights, self._meter.read(), *sizes)
        rows: list[Row] = []
        for spec, generate in turns:
            try:
                row = {**generate(case.gen_len), **found, "round": index, "beside": beside.name}
            except SessionError as error:
                self._fail(spec, error)
                return False
            rows.append(row | shares(row))
            print(summary(row), flush=True)
        self._file.add(*rows)
        return True

    def _fail(self, spec: PeerSpec, error: SessionError) -> None:
        row = failure(spec, self._cell.case, error)
        self._file.add({**row, "round": self._file.next_round(self._cell.case)})
        print(summary(row), flush=True)
