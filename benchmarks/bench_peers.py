"""Other engines and ours on one checkpoint, each under the same memory for its model.

Every engine runs in its own process under a real cgroup limit plus its own fixed overhead; ours
takes the limit as its budget. Rounds go over all cells (a limit, a batch, a prompt length, a
format) and over all engines in turn, each cell right after the machine's own rates. Every run is
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

from benchmarks.ceilings import ceilings, ceilings_text, measure_rates, shares, weights_of
from benchmarks.peer_rows import RunFile, summary
from benchmarks.peers.case import Case
from benchmarks.peers.environments import EXACT, PeerSpec, specs_of
from benchmarks.peers.run import Driver
from benchmarks.testbed import describe
from lm_offload.units import parse_size

OWN = "own"  # the checkpoint's precision, as a format on the command line
Cell = tuple[str | None, Case]


def main() -> None:
    """Measure, print a run as soon as it is there, keep the file up to date after each."""
    args = parse_args()
    file = RunFile(args.json, describe)
    driver = Driver(args.timeout_s, install=not args.no_install)
    deadline_s = time.monotonic() + 60 * args.minutes
    for round_index, (weight_format, case) in itertools.product(range(args.rounds), cells(args)):
        specs = file.missing(round_index, case, specs_of(weight_format, args.engines))
        if not specs:
            continue
        if time.monotonic() > deadline_s:
            print(
                f"{args.minutes:g} minutes are used up in round {round_index + 1} of {args.rounds}"
            )
            break
        measure_cell(file, driver, round_index, case, specs)
    if args.json is None:
        print(json.dumps(file.result()))


def measure_cell(
    file: RunFile, driver: Driver, round_index: int, case: Case, specs: list[PeerSpec]
) -> None:
    """The machine's rates, then each engine once."""
    weight_format = specs[0].weight_format
    weights = weights_of(case.model, weight_format)
    limited = case.limit_bytes is not None
    rates = measure_rates(case.model, weight_format, limited, case.threads)
    found = ceilings(weights, rates, case.batch, case.prompt_len, case.limit_bytes)
    print(ceilings_text(found), flush=True)
    for spec in specs:
        row = {**driver.measure(spec, case), **found, "round": round_index}
        file.add(row | shares(row))
        print(summary(row), flush=True)


def cells(args: argparse.Namespace) -> Iterator[Cell]:
    """Every combination of the axes."""
    base = Case(args.model, 1, 1, args.gen_len, args.threads)
    axes = itertools.product(args.formats, args.limits, args.prompt_lens, args.batches)
    for weight_format, limit, prompt_len, batch in axes:
        limit_bytes = None if limit == "none" else parse_size(limit)
        case = replace(base, batch=batch, prompt_len=prompt_len, limit_bytes=limit_bytes)
        yield None if weight_format == OWN else weight_format, case


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--limits", nargs="+", default=["none"], help="such as 1280MiB, or none")
    parser.add_argument("--engines", nargs="+", choices=[spec.name for spec in EXACT])
    parser.add_argument("--formats", nargs="+", choices=[OWN, "int8", "int4"], default=[OWN])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--prompt-lens", type=int, nargs="+", default=[32])
    parser.add_argument("--gen-len", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--timeout-s", type=float, default=900.0)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--no-install", action="store_true", help="only engines that are there")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
