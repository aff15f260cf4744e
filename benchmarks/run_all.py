"""Run a suite of benchmarks one after the other, then write the HTML report beside the results.

::

    make bench            # ten minutes: python -m benchmarks.run_all
    make bench-full       # hours: python -m benchmarks.run_all --full
    python -m benchmarks.run_all --full --out benchmarks/results    # the committed results

Each part writes its own file; one that fails is named and the rest goes on. A run that was
interrupted, or of which parts failed, goes on where it was when it is started again. How the ten
minutes are shared is in `benchmarks/time_limit.py`.
"""

from __future__ import annotations

import argparse
import math
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from benchmarks.cgroup import run_limited
from benchmarks.cgroup_version import CgroupUnavailableError
from benchmarks.checkpoint_files import checkpoint_bytes
from benchmarks.checkpoint_shapes import PRESETS
from benchmarks.entry import INTERRUPTED, parser_of, run
from benchmarks.peers.obstacles import require_disk
from benchmarks.progress import Progress, States
from benchmarks.suite import Part, Suite, full, quick
from benchmarks.time_limit import GRACE_S, Share, TimeLimit
from benchmarks.weight_files import weight_file_bytes

PROGRESS, TIMES = "progress.state", "times.state"  # not .json: no result files
PROBE_LIMIT_BYTES = 64 << 20
END_S = 20.0  # for a part to end its engines after Ctrl-C, which a terminal sends to all of them
RESERVE_S = GRACE_S + END_S + 5.0  # for a last part that is cut off, and for the report


def main() -> int:
    """Make the checkpoint, run the parts, write the report; the number of parts that failed."""
    start_s, args = time.monotonic(), parse_args()
    suite = full() if args.full else quick()
    out = args.out or Path(".bench") / ("full" if args.full else "quick")
    out.mkdir(parents=True, exist_ok=True)
    try:
        failed = run_suite(suite, out, start_s)
    except KeyboardInterrupt:
        print(f"interrupted; what is measured lies in {out}, the same command goes on from there")
        return INTERRUPTED
    ends_well(["benchmarks.report", "--results", str(out), "--html", str(out / "report.html")])
    print(f"report: {out / 'report.html'}, {time.monotonic() - start_s:.0f} s in all")
    if failed:
        print(f"failed: {', '.join(failed)}; the other results are written, start again to retry")
    return min(len(failed), INTERRUPTED - 1)


def run_suite(suite: Suite, out: Path, start_s: float) -> list[str]:
    """All parts, in time from `start_s` on; names of those that failed or lack the checkpoint."""
    parts = suite.parts
    try:
        make_model(suite)
    except RuntimeError as error:
        parts = tuple(part for part in parts if not part.needs(suite.model))
        print(f"{suite.preset}: {error}; only what needs no checkpoint is measured")
    note_limits()
    if not (out / PROGRESS).exists():
        profile_machine(suite)
    left_out = [part.name for part in suite.parts if part not in parts]
    return [*run_parts(parts, out, time_limit(suite, out, start_s)), *left_out]


def time_limit(suite: Suite, out: Path, start_s: float) -> TimeLimit:
    """Until when a run has to end; one that goes on has the share of what is left to do."""
    progress, last_s = Progress(out / PROGRESS), States(out / TIMES)
    limit = TimeLimit(math.inf, last_s.all())
    to_do = (part for part in suite.parts if progress.state(part) != "done")
    share = sum(map(limit.weight, to_do)) / sum(map(limit.weight, suite.parts))
    return replace(limit, end_s=start_s + share * suite.limit_s - RESERVE_S)


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = parser_of(__doc__)
    parser.add_argument("--full", action="store_true", help="all sizes and engines: hours")
    parser.add_argument("--out", type=Path, help="folder of the results (default: .bench/)")
    return parser.parse_args()


def make_model(suite: Suite) -> None:
    """Write what is missing of the checkpoint; RuntimeError where the disk is too small."""
    size_bytes = checkpoint_bytes(PRESETS[suite.preset], "bf16")
    missing_bytes = size_bytes - weight_file_bytes(suite.model)
    require_disk(suite.model, missing_bytes, f"the checkpoint {suite.model.name}")
    if not ends_well(["benchmarks.make_checkpoint", suite.preset, "--out", str(suite.model)]):
        raise RuntimeError("the checkpoint could not be written")


def profile_machine(suite: Suite) -> None:
    """Measure what plans and predictions are made from, once for all parts: a minute."""
    print("== profile", flush=True)
    if not ends_well(["lm_offload", "profile", "--quiet", "--disk-path", str(suite.model.parent)]):
        print("the machine could not be profiled; parts measure it in a few seconds")


def note_limits() -> None:
    """One line where memory limits cannot be enforced by the kernel."""
    try:
        run_limited(["true"], PROBE_LIMIT_BYTES)
    except CgroupUnavailableError as error:
        print(f"{error} Engines keep budgets of their own instead where they have one.")


def run_parts(parts: tuple[Part, ...], out: Path, limit: TimeLimit) -> list[str]:
    """Run what an interrupted run has left, or all; names of the parts that failed or were cut off.

    A part that was begun keeps its file and goes on; any other begins with none.
    """
    progress, times = Progress(out / PROGRESS), States(out / TIMES)
    to_do = [part for part in parts if progress.state(part) != "done"]
    for index, part in enumerate(to_do):
        share = limit.share(part, to_do[index + 1 :])
        file = out / f"{part.name}.json"
        if progress.state(part) is None:
            file.unlink(missing_ok=True)
        progress.note(part, "begun")
        print(f"== {part.name}", flush=True)
        start_s = time.monotonic()
        if ends_well(command(part, file, share), share.most_s):
            progress.note(part, "done")
        seconds = time.monotonic() - start_s
        times.note(part.name, round(seconds, 1))
        print(f"   {time_taken(seconds, share)}", flush=True)
    failed = [part.name for part in parts if progress.state(part) != "done"]
    if not failed:
        progress.forget()
    return failed


def time_taken(seconds: float, share: Share) -> str:
    """Of a part, beside its share."""
    taken = f"{seconds:.0f} s"
    if math.isinf(share.seconds):
        return taken
    cut = ", cut off; start again for the rest of it" if seconds >= share.most_s else ""
    return f"{taken}, its share {share.seconds:.0f} s{cut}"


def command(part: Part, file: Path, share: Share) -> list[str]:
    """The module and its options."""
    minutes = share.minutes(part)
    told = [] if minutes is None else ["--minutes", f"{minutes:.4g}"]
    return [f"benchmarks.{part.module}", *part.arguments, *told, "--json", str(file)]


def ends_well(command: list[str], most_s: float = math.inf) -> bool:
    """Run a module; whether it ended well within `most_s`.

    One that is interrupted, or cut off as if it were, has a while to clean up.
    """
    process = subprocess.Popen([sys.executable, "-m", *command])
    try:
        return process.wait(None if math.isinf(most_s) else most_s) == 0
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        end(process)
        return False
    except KeyboardInterrupt:
        end(process)
        raise


def end(process: subprocess.Popen[bytes]) -> None:
    """Wait for a module that was interrupted, and no longer."""
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()


if __name__ == "__main__":
    run(main)
