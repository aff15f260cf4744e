"""A runner that has loaded its model and generates whenever it is told to."""

from __future__ import annotations

import json
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from benchmarks.cgroup import MemoryCgroup
from benchmarks.peers.case import Row

READ_BYTES = 1 << 16


class SessionError(Exception):
    """Why a runner gives no more results; a message of one line."""


class Session:
    """One runner from its start until the end of the `with`, under a limit of the kernel or none.

    Raises CgroupUnavailableError where the kernel cannot limit it, SessionError where it fails.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        limit_bytes: int | None,
        timeout_s: float,
    ) -> None:
        self._command, self._environment = list(command), environment
        self._group = None if limit_bytes is None else MemoryCgroup(limit_bytes)
        self._timeout_s = timeout_s
        self._read = b""

    def __enter__(self) -> Session:
        with ExitStack() as stack:
            if self._group:
                stack.enter_context(self._group)
                self._command = self._group.command_in(self._command)
            self._stderr = stack.enter_context(tempfile.TemporaryFile("w+"))
            self._process = subprocess.Popen(
                self._command, env=self._environment, stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=self._stderr,
            )  # fmt: skip
            stack.callback(self._end)
            self.loaded = self._result()
            self._opened = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._opened.close()

    def generate(self, gen_len: int) -> Row:
        """The runner's figures for the case's prompts with so many tokens, and its memory."""
        assert self._process.stdin
        try:
            self._process.stdin.write(f"{gen_len}\n".encode())
            self._process.stdin.flush()
        except BrokenPipeError:
            raise SessionError(self._how_it_ended()) from None
        return self._result() | self._memory()

    def _memory(self) -> Row:
        if not self._group:
            return {}
        limit_bytes, peak_bytes = self._group.limit_bytes, self._group.peak_bytes()
        return {"cgroup_limit_bytes": limit_bytes, "cgroup_peak_bytes": peak_bytes}

    def _result(self) -> Row:
        """The next line that is a result; whatever else a library prints is skipped."""
        deadline_s = time.monotonic() + self._timeout_s
        while True:
            found = result_in(self._line(deadline_s))
            if found is not None and found["error"]:
                raise SessionError(found["error"])
            if found is not None:
                return found

    def _line(self, deadline_s: float) -> bytes:
        assert self._process.stdout
        while b"\n" not in self._read:
            left_s = max(0.0, deadline_s - time.monotonic())
            if not select.select([self._process.stdout], [], [], left_s)[0]:
                raise SessionError(f"timeout after {self._timeout_s:.0f} s")
            more = os.read(self._process.stdout.fileno(), READ_BYTES)
            if not more:
                raise SessionError(self._how_it_ended())
            self._read += more
        line, _, self._read = self._read.partition(b"\n")
        return line

    def _how_it_ended(self) -> str:
        status = self._process.wait(self._timeout_s)
        reason = self._group.exit_reason(status, False) if self._group else f"exit {status}"
        self._stderr.seek(0)
        told = f"{reason}: {last_line(self._stderr.read())}".removesuffix(": ")
        return reason if reason == "oom-killed" else told

    def _end(self) -> None:
        self._process.kill()
        with self._process:  # closes its pipes and waits
            pass


def result_in(line: bytes) -> Row | None:
    """The object on a line, or None where a library printed something else."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and "error" in found else None


def last_line(text: str) -> str:
    """The last line that is not empty."""
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""
