"""Run a command under a real memory limit of the kernel: its pages and its page cache together.

::

    python -m benchmarks.cgroup --limit 1280MiB -- python -m pytest

A child of the current memory control group (version 1 or 2) is made, the command runs in it
without swap, and the group is removed. Needs the right to create groups, in practice root.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from benchmarks.cgroup_version import (
    V1,
    V2,
    CgroupUnavailableError,
    current_group,
    parent_for_children,
    text_of,
)
from benchmarks.entry import parser_of, run

# The shell moves itself into the group before it becomes the command.
_JOIN = 'echo 0 > "$0/cgroup.procs" && exec "$@"'
_SIZE_BYTES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_OUTPUT_TAIL_CHARACTERS = 4000


@dataclass(frozen=True)
class LimitedRun:
    """How a command ended: `ok`, `oom-killed`, `timeout`, `exit N` or `signal N`."""

    exit_reason: str
    wall_s: float
    limit_bytes: int
    peak_bytes: int | None
    stdout: str
    stderr_tail: str


class MemoryCgroup:
    """A control group of `limit_bytes`, page cache included, that lives as long as the `with`."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._version = V1
        self._path = Path()

    def __enter__(self) -> MemoryCgroup:
        self._version, current = current_group()
        parent = parent_for_children(current) if self._version is V2 else current
        name = f"lm-offload-{os.getpid()}-{time.monotonic_ns()}"
        self._path = parent / name
        try:
            self._path.mkdir()
            (self._path / self._version.limit).write_text(str(self.limit_bytes))
        except OSError as error:
            with suppress(OSError):
                self._path.rmdir()
            raise CgroupUnavailableError(
                f"A memory control group of {self.limit_bytes} bytes cannot be made "
                f"({error.strerror}); run as root on a host that delegates the memory controller."
            ) from error
        for file, value in self._version.settings:
            with suppress(OSError):  # an older kernel, or one built without swap
                (self._path / file).write_text(value)
        return self

    def __exit__(self, *error: object) -> None:
        self._kill_members()
        with suppress(OSError):
            (self._path / "memory.force_empty").write_text("0")  # page cache goes, version 1 only
        self._path.rmdir()

    def run(
        self,
        command: Sequence[str],
        *,
        timeout_s: float | None = None,
        env: Mapping[str, str] | None = None,
    ) -> LimitedRun:
        """Run `command` inside the group; whatever it leaves running is killed at the timeout."""
        start_s = time.monotonic()
        with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
            process = subprocess.Popen(
                self.command_in(command), stdout=stdout, stderr=stderr, env=env
            )
            timed_out = False
            try:
                process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                timed_out = True
            finally:
                self._kill_members()
                process.wait()
            wall_s = time.monotonic() - start_s
            return LimitedRun(
                exit_reason=self.exit_reason(process.returncode, timed_out),
                wall_s=wall_s,
                limit_bytes=self.limit_bytes,
                peak_bytes=self.peak_bytes(),
                stdout=_output_of(stdout),
                stderr_tail=_output_of(stderr)[-_OUTPUT_TAIL_CHARACTERS:],
            )

    def peak_bytes(self) -> int | None:
        """The most that was ever charged to the group; None on kernels that do not record it."""
        text = text_of(self._path / self._version.peak)
        return int(text) if text else None

    def oom_kills(self) -> int:
        """How many processes of the group the kernel killed for memory."""
        found = re.search(r"^oom_kill (\d+)$", text_of(self._path / self._version.oom_events), re.M)
        return int(found[1]) if found else 0

    def command_in(self, command: Sequence[str]) -> list[str]:
        """A command that joins the group before it becomes `command`."""
        return ["/bin/sh", "-c", _JOIN, str(self._path), *command]

    def exit_reason(self, returncode: int, timed_out: bool) -> str:
        """How a command of the group ended."""
        if self.oom_kills():
            return "oom-killed"
        if timed_out:
            return "timeout"
        if returncode < 0:
            return f"signal {-returncode}"
        return f"exit {returncode}" if returncode else "ok"

    def _kill_members(self, patience_s: float = 30.0) -> None:
        deadline_s = time.monotonic() + patience_s
        while pids := text_of(self._path / "cgroup.procs").split():
            if time.monotonic() > deadline_s:
                return
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            time.sleep(0.05)


def _output_of(file: IO[str]) -> str:
    file.seek(0)
    return file.read()


def run_limited(
    command: Sequence[str],
    limit_bytes: int,
    *,
    timeout_s: float | None = None,
    env: Mapping[str, str] | None = None,
) -> LimitedRun:
    """Run `command` under `limit_bytes`; raises CgroupUnavailableError where that cannot be."""
    with MemoryCgroup(limit_bytes) as group:
        return group.run(command, timeout_s=timeout_s, env=env)


def parse_limit(text: str) -> int:
    """Bytes in `1280MiB`, `3G` or a plain number; binary units."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; write for example 1280MiB.")
    return int(float(match[1]) * _SIZE_BYTES[match[2].upper()])


def main() -> int:
    """Command line: the command's own output, then one JSON line on stderr about the limit."""
    parser = parser_of(__doc__)
    parser.add_argument("--limit", type=parse_limit, required=True, help="for example 1280MiB")
    parser.add_argument("--timeout-s", type=float)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    result = run_limited(command, args.limit, timeout_s=args.timeout_s)
    sys.stdout.write(result.stdout)
    sys.stderr.write(result.stderr_tail)
    report = {k: v for k, v in asdict(result).items() if k not in ("stdout", "stderr_tail")}
    print(json.dumps(report), file=sys.stderr)
    return 0 if result.exit_reason == "ok" else 1


if __name__ == "__main__":
    run(main)
