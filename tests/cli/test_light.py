"""What plans and simulates loads no torch, which takes longer to import than a plan to find."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lm_offload.engine.kernel_choice import KernelChoice
from lm_offload.kernels.resolve import resolve_kernels

HEAVY = ("torch", "transformers")


@pytest.mark.parametrize(
    "module", ["lm_offload.planner.reasons.explain", "lm_offload.engine.plan_request"]
)
def test_modules_of_the_planner_load_without_torch(module: str) -> None:
    code = f"import sys, {module}; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_the_name_of_the_kernels_is_known_before_they_are_loaded() -> None:
    known, found = KernelChoice.by_name(2), resolve_kernels(2)
    assert (known.name, known.threads) == (found.name, found.threads)
    assert known.resolve().name == found.name
