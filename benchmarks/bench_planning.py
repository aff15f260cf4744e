"""How long `lm-offload plan` takes: the search, and with the explanation and the process.

Large models on described machines, most on three tiers, so that nothing but the planner is timed.
The goal is 2 s for the search::

    python -m benchmarks.bench_planning --json benchmarks/results/planning.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.testbed import describe
from lm_offload.engine.plan_options import PlanOptions
from lm_offload.engine.plan_request import planning_case
from lm_offload.plan import Workload
from lm_offload.planner.search import fastest_plans

RUNS = 3
GOAL_S = 2.0
PROMPT_LEN, GEN_LEN = 512, 32


@dataclass(frozen=True)
class Case:
    """A model on a machine, and how many sequences are asked for."""

    model: str
    machine: str
    batch: int
    gpu_memory: str | None = None
    cpu_memory: str | None = None
    formats: str | None = None  # of weights and KV cache; None: the checkpoint's own

    @property
    def options(self) -> PlanOptions:
        """The same for the planner."""
        own = PlanOptions(self.model, self.formats, machine=self.machine, kv_format=self.formats)
        return replace(own, gpu_memory=self.gpu_memory, cpu_memory=self.cpu_memory)

    @property
    def command(self) -> list[str]:
        """The same for a shell."""
        options = {
            "machine": self.machine,
            "batch-size": str(self.batch),
            "prompt-len": str(PROMPT_LEN),
            "gen-len": str(GEN_LEN),
            "gpu-memory": self.gpu_memory,
            "cpu-memory": self.cpu_memory,
            "weight-format": self.formats,
            "kv-format": self.formats,
        }
        given = [f"--{name}={value}" for name, value in options.items() if value]
        return [sys.executable, "-m", "lm_offload", "plan", self.model, *given]


CASES = (
    Case("llama-3.1-70b", "t4-208gb", 16, gpu_memory="14GiB"),
    Case("llama-3.1-70b", "t4-208gb", 64, gpu_memory="14GiB", formats="auto"),
    Case("llama-2-70b", "t4-208gb", 16, gpu_memory="14GiB", cpu_memory="64GiB"),
    Case("opt-66b", "a100-40gb", 32, gpu_memory="36GiB"),
    Case("opt-175b", "a100-40gb", 64, gpu_memory="36GiB", formats="auto"),
    Case("llama-3.1-70b", "t4-208gb", 64, cpu_memory="32GiB", formats="auto"),
)


def main() -> None:
    """Time each case, print a line each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = []
    for case in CASES:
        rows.append(measure(case))
        print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    slowest_s = max(row["search_s"] for row in rows)
    print(f"goal: a search within {GOAL_S:g} s; the slowest took {slowest_s:.2f} s")
    if args.json:
        result = {"benchmark": "planning", "testbed": describe(), "rows": rows}
        args.json.write_text(json.dumps(result, indent=1) + "\n")


def measure(case: Case) -> dict[str, Any]:
    """The median search in this process, and the median command in one of its own."""
    return {
        "model": case.model,
        "machine": case.machine,
        "batch": case.batch,
        "gpu_memory": case.gpu_memory or "none",
        "cpu_memory": case.cpu_memory or "all",
        "formats": case.formats or "own",
        "search_s": round(statistics.median(search_s(case) for _ in range(RUNS)), 3),
        "command_s": round(statistics.median(command_s(case) for _ in range(RUNS)), 3),
    }


def search_s(case: Case) -> float:
    """Seconds of finding the best plans; nothing is known from an earlier search."""
    workload = Workload((PROMPT_LEN,) * case.batch, (GEN_LEN,) * case.batch)
    request = planning_case(case.options, workload).request
    start_s = time.perf_counter()
    fastest_plans(request)
    return time.perf_counter() - start_s


def command_s(case: Case) -> float:
    """Seconds of the command, which explains the plan as well."""
    start_s = time.perf_counter()
    subprocess.run(case.command, check=True, capture_output=True)
    return time.perf_counter() - start_s


if __name__ == "__main__":
    main()
