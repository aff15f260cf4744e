"""One budget and batch: what a process is asked to measure, and how it answers.

The answer is the last line of its output, one JSON object: a process that dies, or takes too long,
spoils its own row alone, and a CUDA error no other one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

SEED = 0


@dataclass(frozen=True)
class Case:
    """What is measured; `cpu_memory` "" is what the machine has."""

    model: str
    device: str
    gpu_memory: str
    cpu_memory: str
    batch: int
    prompt_len: int
    gen_len: int

    @property
    def prompts(self) -> list[list[int]]:
        """The same for every engine."""
        from benchmarks.peers.protocol import make_prompts

        return make_prompts(Path(self.model), self.batch, self.prompt_len, SEED)


def answer(measure: Callable[[Case], dict[str, Any]]) -> None:
    """Measure the case in the first argument; whatever is raised is the answer."""
    case = Case(**json.loads(sys.argv[1]))
    try:
        found = measure(case)
    except Exception as error:
        words = str(error).strip().splitlines() or [""]
        found = {"error": f"{type(error).__name__}: {words[0]}"}
    print(json.dumps(found), flush=True)


def asked(case: Case) -> str:
    """The case as that argument."""
    return json.dumps(asdict(case))
