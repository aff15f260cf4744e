"""The promise: budget plus the fixed cost of interpreter and libraries, page cache included."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import lm_offload
from lm_offload.units import MIB
from tests.engine.cgroup import memory_group
from tests.engine.make_large import make_large_checkpoint

IMPORTS = """
import json, sys
import torch
from lm_offload import LLM, SamplingParams
from lm_offload.demo import demo_path
from lm_offload.kernels.resolve import resolve_kernels
from lm_offload.models.registry import load_model

def status(name):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

load_model("llama")
kernels = resolve_kernels(1)
x, weight = torch.ones(16, 256), torch.ones(256, 256, dtype=torch.bfloat16)
kernels.linear(x, weight, torch.empty(16, 256))
"""
WARM_UP = """
# A small run first: the pages of library code that computing touches are part of the fixed cost.
# Not in the run that sets the limit of the group: its arenas would raise that limit.
with LLM(demo_path(), cpu_memory="12MiB", threads=1) as llm:
    llm.generate([list(range(3, 40)), [5]], SamplingParams(max_tokens=3, ignore_eos=True))
fixed_bytes = status("VmRSS")
"""
GENERATE = """
folder, budget, max_tokens = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
prompts = [list(range(3, 3 + length)) for length in (5, 70, 20, 1)]
params = SamplingParams(max_tokens=max_tokens, ignore_eos=True)
with LLM(folder, cpu_memory=budget, threads=1) as llm:
    outputs = llm.generate(prompts, params)
    print(json.dumps({
        "tokens": [output.outputs[0].token_ids for output in outputs],
        "streamed_bytes": llm.plan.streamed_bytes,
        "used_bytes": llm.plan.used_bytes,
        "sweeps": len(llm.stats.sweeps),
        "fixed_bytes": fixed_bytes,
        "peak_bytes": status("VmHWM"),
    }))
"""
# Stacks of threads and small buffers of the C library, beside what the imports alone take.
SLACK_BYTES = 6 * MIB
MAX_TOKENS = 3


def python(code: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", code, *map(str, arguments)]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> tuple[Path, int]:
    folder = tmp_path_factory.mktemp("large")
    return folder, make_large_checkpoint(folder)


@pytest.fixture
def environment() -> dict[str, str]:
    """Without a profile: measuring the machine at the first start keeps the promise too."""
    inherited = {key: text for key, text in os.environ.items() if key != "LM_OFFLOAD_PROFILE"}
    return {**inherited, "PYTHONPATH": str(Path(lm_offload.__file__).parents[1])}


@pytest.fixture
def read_libraries(environment, tmp_path) -> None:
    """No page of a library is read from disk for the first time, and charged, under the limit.

    With a cache of its own, so that the machine is still measured there.
    """
    apart = {**environment, "LM_OFFLOAD_CACHE": str(tmp_path)}
    subprocess.run(python(IMPORTS + WARM_UP), env=apart, check=True, capture_output=True)


@pytest.mark.usefixtures("read_libraries")
def test_a_third_of_the_weights_is_enough_under_a_real_limit(checkpoint, environment):
    folder, weight_bytes = checkpoint
    budget = weight_bytes // 3
    with memory_group() as group:
        run = group.run(python(IMPORTS), env=environment)
        assert run.returncode == 0, run.stderr
        fixed_bytes = group.peak_bytes
    with memory_group() as group:
        limit_bytes = fixed_bytes + budget + SLACK_BYTES
        group.limit(limit_bytes)
        code = IMPORTS + WARM_UP + GENERATE
        run = group.run(python(code, folder, budget, MAX_TOKENS), env=environment)
        assert run.returncode == 0, run.stderr
        found = json.loads(run.stdout)
        assert group.times_full == 0
        assert group.peak_bytes < limit_bytes
    assert found["streamed_bytes"] > weight_bytes // 2
    assert found["used_bytes"] <= budget
    assert found["peak_bytes"] - found["fixed_bytes"] <= budget + SLACK_BYTES
    assert [len(tokens) for tokens in found["tokens"]] == [MAX_TOKENS] * 4
