"""The GPU benchmark runs from end to end on the stand-in, each measurement in its own process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.checkpoint_files import checkpoint_bytes
from benchmarks.checkpoint_shapes import PRESETS
from benchmarks.gpu import child, driver_memory, fast_checkpoint
from benchmarks.gpu.__main__ import format_row
from benchmarks.gpu.case import Case
from benchmarks.gpu.child import Done, run_case
from benchmarks.gpu.driver_memory import PeakMemory
from benchmarks.gpu.engine_case import measure
from benchmarks.gpu.fast_checkpoint import dtype_for, made
from benchmarks.gpu.zero_case import dtype_of

from lm_offload.errors import ConfigError

ROOT = Path(__file__).parents[2]


def case(toy, gpu_memory="1MiB", device="standin:500MB/s") -> Case:
    return Case(str(toy("llama")), device, gpu_memory, "64MiB", 2, 8, 4)


def test_the_whole_command_on_the_stand_in(tmp_path):
    """With a peer that may not be installed: then its row says so."""
    file = tmp_path / "out.json"
    arguments = [
        *("--preset", "tiny", "--folder", str(tmp_path), "--device", "standin:2GB/s"),
        *("--gpu-memory", "8MiB", "--cpu-memory", "256MiB", "--batches", "2"),
        *("--prompt-len", "8", "--gen-len", "4", "--peers", "accelerate", "--json", str(file)),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found, engine, peer = json.loads(file.read_text())["rows"]
    assert found["engine"] == "calibration"
    assert 0 < max(found["links_bytes_per_s"]["h2d"]["alone"].values()) < 2.5e9
    assert "error" not in engine, engine
    assert engine["decode_tokens_per_s"] > 0
    assert peer["engine"] == "accelerate"
    assert peer.get("decode_tokens_per_s") or "accelerate" in peer["error"]


def test_a_case_on_the_stand_in(toy):
    row = measure(case(toy))
    assert row["decode_tokens_per_s"] > 0
    assert 0 < row["gpu_busy_frac"] <= 1
    assert row["units_on_device"] + row["units_on_host"] + row["units_on_disk"] == 9
    line = format_row({"engine": "lm-offload", "gpu_memory": "1MiB", "batch": 2, **row})
    assert "tok/s (predicted" in line


def test_a_process_that_takes_too_long_is_a_row(toy):
    assert run_case("benchmarks.gpu.engine_case", case(toy), 0.05) == {"error": "stopped after 0 s"}
    assert "no time" in run_case("benchmarks.gpu.engine_case", case(toy), 0.0)["error"]


def test_a_process_that_dies_is_a_row_with_its_last_words(toy, monkeypatch):
    monkeypatch.setattr(child, "_run", lambda *asked: Done(-11, "", "Segmentation fault"))
    error = run_case("benchmarks.gpu.engine_case", case(toy), 5.0)["error"]
    assert error == "ended with status -11: Segmentation fault"
    assert error in format_row(
        {"engine": "lm-offload", "gpu_memory": "1GiB", "batch": 1, "error": error}
    )


@pytest.mark.parametrize(("said", "taken_bytes"), [("1200\n", 0), ("[N/A]\n", None)])
def test_the_driver_is_asked_for_its_own_count(monkeypatch, said, taken_bytes):
    def says(command, **options):
        assert command[0] == "nvidia-smi"
        assert command[-1] == "--id=1"
        return subprocess.CompletedProcess(command, 0, stdout=said)

    monkeypatch.setattr(driver_memory.subprocess, "run", says)
    with PeakMemory("cuda:1") as peak:
        pass
    assert peak.taken_bytes == taken_bytes


def test_without_a_driver_there_is_no_count():
    with PeakMemory("standin:1GB/s") as peak:
        pass
    assert peak.taken_bytes is None


@pytest.mark.parametrize(("said", "dtype"), [("7.5\n", "fp16"), ("9.0\n", "bf16"), ("", "bf16")])
def test_weights_are_of_the_dtype_that_the_gpu_multiplies(monkeypatch, said, dtype):
    def says(command, **options):
        return subprocess.CompletedProcess(command, 0, stdout=said)

    monkeypatch.setattr(fast_checkpoint.subprocess, "run", says)
    assert dtype_for("cuda:1") == dtype
    assert dtype_for("standin:1GB/s") == "bf16"


def test_weights_of_either_dtype_are_those_that_peers_are_told_of(tmp_path):
    for dtype in ("bf16", "fp16"):
        assert dtype_of(str(made("tiny", dtype, tmp_path, 60.0))) == dtype
    assert len({*tmp_path.iterdir()}) == 2


def test_a_disk_that_is_too_slow_is_one_sentence(tmp_path):
    with pytest.raises(ConfigError, match="took more than 0 s; run again"):
        made("tiny", "bf16", tmp_path, 0.0)


def test_the_sizes_of_the_grid_are_those_of_models():
    sizes = [checkpoint_bytes(PRESETS[name], "bf16") / 2e9 for name in ("7b", "13b", "30b")]
    assert sizes == pytest.approx([6.7, 13.0, 32.5], rel=0.02)
