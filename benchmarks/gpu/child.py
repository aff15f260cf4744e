"""Runs one measurement in a process of its own, in bounded time, beside a look at the driver."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from benchmarks.gpu.case import Case, asked
from benchmarks.gpu.driver_memory import PeakMemory

SHOWN_CHARACTERS = 300  # of what a process said last before it died


def run_case(module: str, case: Case, seconds: float) -> dict[str, Any]:
    """The answer of `python -m module` to the case, with the peak of the GPU's memory."""
    if seconds <= 0:
        return {"error": "skipped: no time was left"}
    command = [sys.executable, "-m", module, asked(case)]
    with PeakMemory(case.device) as peak:
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=seconds, check=False
            )
        except subprocess.TimeoutExpired:
            return {"error": f"stopped after {seconds:.0f} s"}
    return {**_answer_of(done), "driver_peak_bytes": peak.taken_bytes}


def _answer_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    *_, last = done.stdout.strip().splitlines() or [""]
    try:
        found = json.loads(last)
    except json.JSONDecodeError:
        found = None
    if isinstance(found, dict):
        return found
    said = done.stderr.strip()[-SHOWN_CHARACTERS:]
    return {"error": f"ended with status {done.returncode}: {said}"}
