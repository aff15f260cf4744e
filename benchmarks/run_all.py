"""Run a suite of benchmarks one after the other, then write the HTML report beside the results.

::

    make bench            # ten minutes: python -m benchmarks.run_all
    make bench-full       # hours: python -m benchmarks.run_all --full
    python -m benchmarks.run_all --full --out benchmarks/results    # the committed results

Each part writes its own file; one that fails is named and the rest goes on. A run that was
interrupted, or of which parts failed, goes on where it was when it is started again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.cgroup import CgroupUnavailableError, run_limited
from benchmarks.entry import INTERRUPTED, parser_of, run
from benchmarks.make_checkpoint import PRESETS, checkpoint_bytes
from benchmarks.part_file import write_whole
from benchmarks.peers.obstacles import require_disk
from benchmarks.suite import Part, Suite, full, quick
from benchmarks.weight_files import weight_file_bytes

PROGRESS = "progress.state"  # not .json: no result file
PROBE_LIMIT_BYTES = 64 << 20
END_S = 20.0  # for a part to end its engines after Ctrl-C, which a terminal sends to all of them


def main() -> int:
    """Make the checkpoint, run the parts, write the report; the number of parts that failed."""
    args = parse_args()
    suite = full() if args.full else quick()
    out = args.out or Path(".bench") / ("full" if args.full else "quick")
    out.mkdir(parents=True, exist_ok=True)
    try:
        failed = run_suite(suite, out)
    except KeyboardInterrupt:
        print(f"interrupted; what is measured lies in {out}, the same command goes on from there")
        return INTERRUPTED
    ends_well(["benchmarks.report", "--results", str(out), "--html", str(out / "report.html")])
    print(f"report: {out / 'report.html'}")
    if failed:
        print(f"failed: {', '.join(failed)}; the other results are written, start again to retry")
    return min(len(failed), INTERRUPTED - 1)


def run_suite(suite: Suite, out: Path) -> list[str]:
    """All parts; names of those that failed or lack the checkpoint."""
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
    return [*run_parts(parts, out), *left_out]


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


def run_parts(parts: tuple[Part, ...], out: Path) -> list[str]:
    """Run what an interrupted run has left, or all; names of the parts that failed.

    A part that was begun keeps its file and goes on; any other begins with none.
    """
    progress = Progress(out / PROGRESS)
    for part in parts:
        if progress.state(part) == "done":
            continue
        file = out / f"{part.name}.json"
        if progress.state(part) is None:
            file.unlink(missing_ok=True)
        progress.note(part, "begun")
        print(f"== {part.name}", flush=True)
        start_s = time.monotonic()
        if ends_well(command(part, file)):
            progress.note(part, "done")
        print(f"   {time.monotonic() - start_s:.0f} s", flush=True)
    failed = [part.name for part in parts if progress.state(part) != "done"]
    if not failed:
        progress.forget()
    return failed


class Progress:
    """What has been begun and done; a part whose command has changed counts as new."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._states: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}

    def state(self, part: Part) -> str | None:
        """`begun`, `done`, or None."""
        return self._states.get(_key(part))

    def note(self, part: Part, state: str) -> None:
        """Remember a state."""
        self._states[_key(part)] = state
        write_whole(self._path, self._states)

    def forget(self) -> None:
        """The next run begins anew."""
        self._path.unlink(missing_ok=True)


def _key(part: Part) -> str:
    return " ".join((part.name, part.module, *part.arguments, f"{part.minutes}"))


def command(part: Part, file: Path) -> list[str]:
    """The module and its options."""
    minutes = [] if part.minutes is None else ["--minutes", f"{part.minutes:g}"]
    return [f"benchmarks.{part.module}", *part.arguments, *minutes, "--json", str(file)]


def ends_well(command: list[str]) -> bool:
    """Run a module; whether it ended well. One that is interrupted has a while to clean up."""
    process = subprocess.Popen([sys.executable, "-m", *command])
    try:
        return process.wait() == 0
    except KeyboardInterrupt:
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
        raise


if __name__ == "__main__":
    run(main)
