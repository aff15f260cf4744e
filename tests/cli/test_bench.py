"""The benchmark verb: its JSON, its ceiling, and that the prompts are what was asked for."""

from __future__ import annotations

import json
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from lm_offload.cli.ceiling import CeilingModel, PhaseCeiling, Shape
from lm_offload.cli.measure import peak_rss_bytes, random_prompts
from lm_offload.engine.model_files import open_model
from lm_offload.plan import MachineRates, Plan
from tests.cli.conftest import Run

KEYS = {
    "load_s", "prefill_tokens_per_s", "decode_tokens_per_s", "throughput_tokens_per_s",
    "peak_rss_bytes", "ttft_s", "tpot_s", "ceiling", "measured", "plan", "machine",
}  # fmt: skip
RATES = MachineRates(1e9, 1e10, 1e11, 1 << 20, 4)
SIZES = ["--batch-size", "3", "--prompt-len", "20", "--gen-len", "4"]


def test_json_is_the_only_thing_on_standard_output(run: Run, demo: Path) -> None:
    done = run("bench", str(demo), *SIZES, "--cpu-memory", "12MiB", "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record.keys() >= KEYS
    assert record["measured"]["decode_sweeps"] >= 3
    assert record["ceiling"]["decode"]["tokens"] == 9
    assert record["plan"]["streamed_bytes"] > 0
    assert record["machine"]["rates"]["disk_read_bytes_per_s"] > 0
    assert str(demo) not in done.stdout
    assert socket.gethostname() not in done.stdout


def test_the_ceiling_is_printed_before_the_measurement(run: Run, demo: Path) -> None:
    done = run("bench", str(demo), *SIZES, "--no-overlap")
    assert 0 < done.stdout.index("Ceiling") < done.stdout.index("Measured")


def test_one_token_each_has_no_decode(run: Run, demo: Path) -> None:
    done = run("bench", str(demo), "--prompt-len", "8", "--gen-len", "1", "--json")
    record = json.loads(done.stdout)
    assert record["tpot_s"] is None
    assert record["ceiling"]["decode_tokens_per_s"] is None


def test_more_than_the_context_is_refused_not_cut(run: Run, demo: Path) -> None:
    done = run("bench", str(demo), "--prompt-len", "2040", "--gen-len", "9")
    assert done.returncode == 7
    assert "context is 2048" in done.stderr


def test_prompts_follow_the_seed() -> None:
    shape = Shape(3, 50, 1)
    prompts = random_prompts(100, shape, seed=1)
    assert [len(prompt) for prompt in prompts] == [50, 50, 50]
    assert prompts == random_prompts(100, shape, seed=1) != random_prompts(100, shape, seed=2)
    assert all(0 <= token < 100 for prompt in prompts for token in prompt)


def test_a_phase_is_bound_by_its_slowest_resource() -> None:
    phase = PhaseCeiling(tokens=10, disk_s=2.0, memory_s=1.0, compute_s=0.5)
    assert (phase.bound_by, phase.seconds, phase.tokens_per_s) == ("disk", 2.0, 5.0)


@pytest.fixture
def plan(run: Run, demo: Path) -> Plan:
    done = run("plan", str(demo), "--batch-size", "4", "--json")
    return Plan(**json.loads(done.stdout))


def test_the_ceiling_counts_bytes_and_flops(demo: Path, plan: Plan) -> None:
    files = open_model(demo)
    plan = replace(plan, streamed_bytes=1_000_000, max_sequences=4, sweep_tokens=32)
    ceiling = CeilingModel(files.config, files.units, plan, RATES).ceiling(Shape(4, 32, 11))
    assert ceiling.decode.tokens == 40  # in 10 sweeps
    assert ceiling.decode.disk_s == pytest.approx(10 * 1e6 / 1e9)
    kv_bytes = 40 * (32 + 6) * 2 * 6 * files.config.kv_size * 2
    assert ceiling.decode.memory_s == pytest.approx((10 * files.weight_bytes + kv_bytes) / 1e10)
    assert ceiling.prefill.disk_s == pytest.approx(4 * 1e6 / 1e9)
    least_flops = 2 * 40 * files.weight_bytes / 2
    assert least_flops < ceiling.decode.compute_s * 1e11 < 1.1 * least_flops


def test_peak_memory_never_sinks() -> None:
    before = peak_rss_bytes()
    assert before > 50 << 20
    assert peak_rss_bytes() >= before
