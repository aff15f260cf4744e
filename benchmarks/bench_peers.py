"""Other engines and ours on one checkpoint, each under the same memory for its model.

Every engine runs in its own process under a real cgroup limit plus its own fixed overhead; ours
takes the limit as its budget. In each cell (a limit, a batch, a prompt length, a format) ours and
one other engine are loaded side by side and run in turns, the first one changing from round to
round, the machine's own rates in between. A pair has had enough rounds when the interval of its
ratio is narrow; what is left of the minutes goes to the pairs with the widest ones. Every round is
written as soon as it is measured, and a run that is started again goes on::

    python -m benchmarks.bench_peers --model .checkpoints/llama-1.1b --limits 1280MiB none \\
        --json out.json
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks.entry import result_parser, run
from benchmarks.peer_rows import OURS, RunFile
from benchmarks.peer_turns import Cell, CellTurns, Enough
from benchmarks.peers.case import Case
from benchmarks.peers.environments import EXACT, PeerSpec, specs_of
from benchmarks.peers.run import Driver
from benchmarks.round_ratio import half_width_frac
from benchmarks.testbed import describe
from lm_offload.units import parse_size

OWN = "own"  # the checkpoint's precision, as a format on the command line
NARROW_FRAC = 0.02  # half of an interval over its ratio, at which a pair has had enough rounds
LEAST_ROUNDS = 6  # before an interval is believed
LEAST_VISIT_S = 15.0  # of a pair that is taken up again, or most of it would be loading
Pair = tuple[Cell, PeerSpec]


def main() -> None:
    """Measure, print a run as soon as it is there, keep the file up to date after each."""
    args = parse_args()
    file = RunFile(args.json, describe)
    driver = Driver(args.timeout_s, install=not args.no_install)
    deadline_s = time.monotonic() + 60 * args.minutes
    schedule = Schedule(file, args.rounds, deadline_s)
    first_visits(schedule, driver, file, list(cells(args)))
    while (pair := schedule.widest()) and schedule.left_s > LEAST_VISIT_S:
        cell, spec = pair
        with CellTurns(driver, file, cell) as turns:
            turns.take(spec, schedule.until(cell, max(schedule.left_s / 3, LEAST_VISIT_S)))
    if args.json is None:
        print(json.dumps(file.result()))


class Schedule:
    """Which pair is measured for how long: at most `rounds` each, all until the deadline."""

    def __init__(self, file: RunFile, rounds: int, deadline_s: float) -> None:
        self._file, self._rounds, self._deadline_s = file, rounds, deadline_s
        self._pairs: list[Pair] = []

    @property
    def left_s(self) -> float:
        """Until the deadline."""
        return self._deadline_s - time.monotonic()

    def note(self, pair: Pair) -> None:
        """A pair that has been visited."""
        self._pairs.append(pair)

    def done(self, cell: Cell, spec: PeerSpec) -> bool:
        """Whether a pair has failed, had all rounds, or a narrow interval."""
        rounds = self._file.rounds(cell.case, spec)
        narrow = len(rounds) >= LEAST_ROUNDS and half_width_frac(rounds) <= NARROW_FRAC
        return self._file.failed(cell.case, spec) or len(rounds) >= self._rounds or narrow

    def widest(self) -> Pair | None:
        """The pair that is known least well of those that are not done."""
        open_pairs = [pair for pair in self._pairs if not self.done(*pair)]

        def width(pair: Pair) -> float:
            return half_width_frac(self._file.rounds(pair[0].case, pair[1]))

        return max(open_pairs, key=width, default=None)

    def until(self, cell: Cell, share_s: float) -> Enough:
        """Enough of a visit: when the pair is done or its share of the time is used up."""
        end_s = time.monotonic() + share_s
        return lambda spec: time.monotonic() > end_s or self.done(cell, spec)


def first_visits(schedule: Schedule, driver: Driver, file: RunFile, every: list[Cell]) -> None:
    """All pairs one after the other, each with its part of the time that is left."""
    pairs_left = sum(len(cell.others) for cell in every)
    for cell in every:
        wanted = [spec for spec in cell.others if not schedule.done(cell, spec)]
        for spec in wanted:
            schedule.note((cell, spec))
        if wanted and schedule.left_s > 0:
            with CellTurns(driver, file, cell) as turns:
                for spec in wanted:
                    turns.take(spec, schedule.until(cell, schedule.left_s / pairs_left))
                    pairs_left -= 1
        pairs_left = max(pairs_left, 1)


def cells(args: argparse.Namespace) -> Iterator[Cell]:
    """Every combination of the axes; a cell of our engine alone holds it as if it were another."""
    base = Case(args.model, 1, 1, args.gen_len, args.threads)
    axes = itertools.product(args.formats, args.limits, args.prompt_lens, args.batches)
    for weight_format, limit, prompt_len, batch in axes:
        limit_bytes = None if limit == "none" else parse_size(limit)
        case = replace(base, batch=batch, prompt_len=prompt_len, limit_bytes=limit_bytes)
        specs = specs_of(None if weight_format == OWN else weight_format, args.engines)
        ours = next((spec for spec in specs if spec.engine == OURS), None)
        others = tuple(spec for spec in specs if spec != ours)
        if specs:
            yield Cell(case, ours, others or (specs[0],))


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = result_parser(__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--limits", nargs="+", default=["none"], help="such as 1280MiB, or none")
    parser.add_argument("--engines", nargs="+", choices=[spec.name for spec in EXACT])
    parser.add_argument("--formats", nargs="+", choices=[OWN, "int8", "int4"], default=[OWN])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--prompt-lens", type=int, nargs="+", default=[32])
    parser.add_argument("--gen-len", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=20, help="of a pair at most")
    parser.add_argument("--timeout-s", type=float, default=900.0)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--no-install", action="store_true", help="only engines that are there")
    return parser.parse_args()


if __name__ == "__main__":
    run(main)
