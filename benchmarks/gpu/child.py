"""Runs one measurement in a process of its own, in bounded time, beside a look at the driver."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import Any, NamedTuple

from benchmarks.gpu.case import Case, asked
from benchmarks.gpu.driver_memory import PeakMemory

SHOWN_CHARACTERS = 300  # of what a process said last before it died


class Done(NamedTuple):
    """How a process ended, and what it said."""

    status: int
    out: str
    err: str


def run_case(module: str, case: Case, seconds: float) -> dict[str, Any]:
    """The answer of `python -m module` to the case, with the peak of the GPU's memory."""
    if seconds <= 0:
        return {"error": "skipped: no time was left"}
    command = [sys.executable, "-m", module, asked(case)]
    with PeakMemory(case.device) as peak:
        done = _run(command, seconds)
    if done is None:
        return {"error": f"stopped after {seconds:.0f} s"}
    return {**_answer_of(done), "driver_peak_bytes": peak.taken_bytes}


def _run(command: list[str], seconds: float) -> Done | None:
    """In a session of its own, so that what it started ends with it; None where time ran out."""
    process = subprocess.Popen(
        command, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    return Done(process.returncode, out, err)


def _answer_of(done: Done) -> dict[str, Any]:
    *_, last = done.out.strip().splitlines() or [""]
    try:
        found = json.loads(last)
    except json.JSONDecodeError:
        found = None
    if isinstance(found, dict):
        return found
    said = done.err.strip()[-SHOWN_CHARACTERS:]
    return {"error": f"ended with status {done.status}: {said}"}
