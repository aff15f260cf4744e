"""How long `lm-offload plan` and `lm-offload simulate --search` take, whole and the search alone.

Large models on described machines, most on three tiers, so that nothing but the planner is timed.
A whole command starts a process, imports, reads the config, searches, explains and prints. The goal
is 2 s for each, the search alone included::

    python -m benchmarks.bench_planning --json benchmarks/results/planning.json
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from benchmarks.entry import result_parser, run
from benchmarks.result import report
from lm_offload.arch.shipped import find_config
from lm_offload.engine.plan_options import PlanOptions
from lm_offload.engine.plan_request import planning_case
from lm_offload.hardware.machine_file import load_machine
from lm_offload.plan import Workload
from lm_offload.planner.choose.search import fastest_plans
from lm_offload.planner.policies import search as policies
from lm_offload.planner.policies.constraints import Constraints, choices_for
from lm_offload.planner.policies.job import Job
from lm_offload.planner.policies.model_shape import model_shape

RUNS = 3
GOAL_S = 2.0
PROMPT_LEN, GEN_LEN = 512, 32


@dataclass(frozen=True)
class Case:
    """A model on a machine, and how many sequences are asked for; 0: the search decides."""

    model: str
    machine: str
    batch: int = 0
    gpu_memory: str | None = None
    cpu_memory: str | None = None
    formats: str | None = None  # of weights and KV cache; None: the checkpoint's own

    @property
    def command(self) -> Literal["plan", "simulate"]:
        """The one that is timed."""
        return "plan" if self.batch else "simulate"

    @property
    def line(self) -> list[str]:
        """All of it, for a shell."""
        options = {
            "machine": self.machine,
            "batch-size": str(self.batch or ""),
            "prompt-len": str(PROMPT_LEN),
            "gen-len": str(GEN_LEN),
            "gpu-memory": self.gpu_memory,
            "cpu-memory": self.cpu_memory,
            "weight-format": self.formats,
            "kv-format": self.formats,
        }
        given = [f"--{name}={value}" for name, value in options.items() if value]
        model = [self.model] if self.batch else [f"--config={self.model}", "--search"]
        return [sys.executable, "-m", "lm_offload", self.command, *model, *given]

    def search(self) -> None:
        """Finds the best plans; nothing is known from an earlier search."""
        if not self.batch:
            shape = model_shape(find_config(self.model))
            job = Job(shape, load_machine(self.machine), PROMPT_LEN, GEN_LEN)
            policies.search(job, choices_for(job, Constraints()))
            return
        own = PlanOptions(self.model, self.formats, machine=self.machine, kv_format=self.formats)
        options = replace(own, gpu_memory=self.gpu_memory, cpu_memory=self.cpu_memory)
        workload = Workload((PROMPT_LEN,) * self.batch, (GEN_LEN,) * self.batch)
        fastest_plans(planning_case(options, workload).request)


CASES = (
    Case("llama-3.1-70b", "t4-208gb", 16, gpu_memory="14GiB"),
    Case("llama-3.1-70b", "t4-208gb", 64, gpu_memory="14GiB", formats="auto"),
    Case("llama-2-70b", "t4-208gb", 16, gpu_memory="14GiB", cpu_memory="64GiB"),
    Case("opt-66b", "a100-40gb", 32, gpu_memory="36GiB"),
    Case("opt-175b", "a100-40gb", 64, gpu_memory="36GiB", formats="auto"),
    Case("llama-3.1-70b", "t4-208gb", 64, cpu_memory="32GiB", formats="auto"),
    Case("llama-3.1-8b", "t4-208gb", 64, cpu_memory="4GiB", formats="auto"),
    Case("opt-30b", "t4-208gb"),
    Case("llama-2-70b", "a100-40gb"),
    Case("mixtral-8x7b", "l4-192gb"),
)


def main() -> None:
    """Time each case, print a line each."""
    parser = result_parser(__doc__)
    args = parser.parse_args()
    start_s = median_s(lambda: call([sys.executable, "-m", "lm_offload", "--version"]))
    measured = ({**measure(case), "start_s": start_s} for case in CASES)
    result = report("planning", measured, args.json, show=format_row)
    slowest_s = max(row["command_s"] for row in result["rows"])
    print(f"goal: a command within {GOAL_S:g} s; the slowest took {slowest_s:.2f} s")


def format_row(row: dict[str, Any]) -> str:
    """One case on one line."""
    return "  ".join(f"{key} {value}" for key, value in row.items() if not key.endswith("_runs"))


def measure(case: Case) -> dict[str, Any]:
    """The median search in this process, and the median command in one of its own."""
    command_s = times_s(lambda: call(case.line))
    return {
        "command": case.command,
        "model": case.model,
        "machine": case.machine,
        "batch": case.batch or "any",
        "gpu_memory": case.gpu_memory or ("none" if case.batch else "all"),
        "cpu_memory": case.cpu_memory or "all",
        "formats": case.formats or ("own" if case.batch else "any"),
        "search_s": median_s(case.search),
        "command_s": statistics.median(command_s),
        "command_s_runs": command_s,
    }


def median_s(timed: Callable[[], None]) -> float:
    """Of several runs."""
    return statistics.median(times_s(timed))


def times_s(timed: Callable[[], None]) -> list[float]:
    """Each of several runs."""
    return [round(_seconds(timed), 3) for _ in range(RUNS)]


def call(line: list[str]) -> None:
    """A command whose output nobody reads; its modules are compiled once, as for any user."""
    env = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run(line, check=True, capture_output=True, env=env)


def _seconds(timed: Callable[[], None]) -> float:
    start_s = time.perf_counter()
    timed()
    return time.perf_counter() - start_s


if __name__ == "__main__":
    run(main)
