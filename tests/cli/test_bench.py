"""The benchmark verb: its JSON, its ceiling, and that the prompts are what was asked for."""

from __future__ import annotations

import io
import json
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from lm_offload.cli.comparison_report import print_comparison
from lm_offload.cli.measure import Shape, random_prompts
from lm_offload.cli.memory_mark import peak_rss_bytes
from lm_offload.engine.opening import open_model
from lm_offload.engine.planning import ceiling_for
from lm_offload.plan import Figures, KVSpill, Plan
from lm_offload.planner.reasons.phase_ceiling import PhaseCeiling
from lm_offload.step_time import StepTime
from tests.cli.conftest import Run
from tests.engine.harness import PROFILE

KEYS = {
    "load_s", "prefill_tokens_per_s", "decode_tokens_per_s", "throughput_tokens_per_s",
    "peak_rss_bytes", "ttft_s", "tpot_s", "ceiling", "predicted", "measured", "plan", "machine",
}  # fmt: skip
SIZES = ["--batch-size", "3", "--prompt-len", "20", "--gen-len", "4"]


def test_json_is_the_only_thing_on_standard_output(run: Run, demo: Path) -> None:
    done = run("bench", str(demo), *SIZES, "--cpu-memory", "12MiB", "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record.keys() >= KEYS
    assert record["measured"]["decode_sweeps"] >= 3
    assert record["ceiling"]["decode"]["tokens"] == 9
    assert record["plan"]["streamed_bytes"] > 0
    assert record["machine"]["profile"]["disk_read"]["block_bytes"] > 0
    assert str(demo) not in done.stdout
    assert socket.gethostname() not in done.stdout


def test_a_device_is_measured_beside_its_ceiling(run: Run, demo: Path) -> None:
    gpu = ["--gpu-memory", "12MiB", "--device", "standin:1GB/s", "--in-place", "none"]
    done = run("bench", str(demo), *SIZES, *gpu, "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    uploaded_bytes = record["plan"]["device"]["uploaded_bytes"]
    assert uploaded_bytes > 0
    assert record["ceiling"]["decode"]["link_s"] > 0
    for made in ("predicted", "measured"):
        step = record[made]["step_s"]["decode"]
        assert step["h2d_bytes"] == pytest.approx(uploaded_bytes, rel=0.5)
        assert step["gpu_s"] > 0
    assert "the link" in done.stderr
    assert "the device" in done.stderr


def test_predicted_and_measured_have_the_same_keys(run: Run, demo: Path) -> None:
    done = run("bench", str(demo), *SIZES, "--cpu-memory", "12MiB", "--json")
    record = json.loads(done.stdout)
    predicted, measured = record["predicted"], record["measured"]
    assert predicted.keys() <= measured.keys()
    assert predicted.keys() >= {"prefill_tokens_per_s", "decode_tokens_per_s", "ttft_s", "tpot_s"}
    assert predicted["step_s"].keys() == measured["step_s"].keys() == {"prefill", "decode"}
    for phase, step in predicted["step_s"].items():
        assert step.keys() == measured["step_s"][phase].keys()
    assert predicted["peak_bytes"].keys() == measured["peak_bytes"].keys() == {"cpu", "disk"}
    streamed = record["plan"]["streamed_bytes"]
    assert measured["peak_bytes"]["disk"] == pytest.approx(streamed, rel=0.3)
    assert predicted["peak_bytes"]["disk"] == streamed
    assert 0 < measured["peak_bytes"]["cpu"] < predicted["peak_bytes"]["cpu"] + (16 << 20)


def test_a_prediction_that_is_off_names_the_resource() -> None:
    step = StepTime(total_s=1.0, cpu_s=0.2, wait_s=0.8, disk_read_s=0.9, read_bytes=1)
    slow = StepTime(total_s=2.0, cpu_s=0.2, wait_s=1.8, disk_read_s=1.9, read_bytes=1)
    predicted, measured = (
        Figures(1.0, 1.0, 1.0, 1.0, 1.0, {"prefill": step, "decode": decode}, {})
        for decode in (step, slow)
    )
    console = Console(file=io.StringIO(), width=200)
    print_comparison(console, predicted, measured)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "a decode sweep took 2.00 times as long as predicted" in text
    assert "the disk (1.90 s instead of 900.00 ms)" in text
    assert "prefill sweep took" not in text


def test_without_overlap_nothing_is_compared(run: Run, demo: Path) -> None:
    assert "Predicted and measured" in run("bench", str(demo), *SIZES).stdout
    assert "Predicted and measured" not in run("bench", str(demo), *SIZES, "--no-overlap").stdout


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
    record = json.loads(done.stdout)
    assert record.pop("explanation")
    record.pop("spare")
    return Plan(**{**record, "spill": KVSpill(**record["spill"])})


def test_the_ceiling_counts_bytes_and_flops(demo: Path, plan: Plan) -> None:
    files = open_model(demo)
    plan = replace(plan, streamed_bytes=1_000_000, max_sequences=4, sweep_tokens=32)
    ceiling = ceiling_for([files], plan, Shape(4, 32, 11).workload, PROFILE)
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


def report_of(predicted: Figures, measured: Figures) -> str:
    file = io.StringIO()
    print_comparison(Console(file=file, width=200), predicted, measured)
    return file.getvalue()


def test_a_part_that_nobody_predicted_is_shown_without_a_ratio() -> None:
    """Its seconds are a difference of others, which may be rounded to just below 0."""
    step = StepTime(total_s=1.0, cpu_s=0.6, wait_s=0.4 + 1e-16, disk_read_s=0.0, read_bytes=0)
    found = StepTime(total_s=1.1, cpu_s=0.6, wait_s=0.4, disk_read_s=0.0, read_bytes=0)
    text = report_of(
        *(Figures(1.0, 1.0, 1.0, 1.0, 1.0, {"decode": it}, {}) for it in (step, found))
    )
    (line,) = (line for line in text.splitlines() if "the engine itself" in line)
    assert "100.00 ms" in line
    assert line.rstrip("│ ").endswith("100.00 ms")
    assert "the disk" not in text


def test_figures_stand_beside_what_was_predicted(run: Run, demo: Path) -> None:
    overlapped = run("bench", str(demo), *SIZES, "--cpu-memory", "12MiB").stdout
    serial = run("bench", str(demo), *SIZES, "--no-overlap").stdout
    heads = [
        next(line for line in out.splitlines() if "of the ceiling" in line)
        for out in (overlapped, serial)
    ]
    assert "predicted" in heads[0]
    assert "predicted" not in heads[1]
    assert "measured" in heads[1]
