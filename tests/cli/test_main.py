"""The command line: results on standard output, errors as one sentence with an exit status."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from lm_offload.cli import prompts
from tests.cli.conftest import Run
from tests.toy import make_toy_checkpoint

COMMAND = [sys.executable, "-m", "lm_offload"]


def test_demo_runs_below_the_size_of_the_model() -> None:
    arguments = ["demo", "--max-tokens", "4", "--cpu-memory", "12MiB"]
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("def read_file(path):")
    assert "streamed from" in done.stderr.replace("\n", " ")


def test_demo_says_nothing_before_its_error(run: Run) -> None:
    done = run("demo", "--cpu-memory", "1KiB", "-q")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("error: A CPU memory budget of 1.00 KiB")


def test_a_run_without_decode_shows_no_rate_of_it(run: Run, demo: Path) -> None:
    done = run("generate", str(demo), "--prompt", "a", "--max-tokens", "1", "--threads", "1")
    assert "prefill" in done.stderr
    assert "decode" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_within_seconds_and_keeps_what_was_written(
    number: signal.Signals, tmp_path: Path, demo: Path
) -> None:
    output = tmp_path / "out.jsonl"
    arguments = ["generate", str(demo), "--prompt", "import os", "--prompt", "def f(x):"]
    arguments += ["--max-tokens", "1900", "--ignore-eos", "--output", str(output)]
    arguments += ["--cpu-memory", "40MiB", "--trace", str(tmp_path / "trace.json")]
    arguments += ["--n", "64", "--temperature", "1"]
    with subprocess.Popen([*COMMAND, *arguments], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while "decode" not in process.stderr.readline():  # loaded, in the middle of the run
            assert process.poll() is None
        process.send_signal(number)
        start_s = time.monotonic()
        stderr = process.stderr.read()
        process.wait(timeout=30)
    assert time.monotonic() - start_s < 5  # a promise to whoever waits for the prompt
    assert process.returncode == 128 + number
    assert "Traceback" not in stderr
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    sweeps = {event["args"]["sweep"] for event in events if "sweep" in event["args"]}
    assert 0 < len(sweeps) < 1900 / 2  # the run was given up long before its end


def test_generate_streams_the_same_text_as_json_lines(run: Run, tmp_path: Path, demo: Path) -> None:
    output = tmp_path / "out.jsonl"
    common = ["generate", str(demo), "--prompt", "def add(", "--max-tokens", "6", "-q"]
    streamed = run(*common)
    written = run(*common, "--prompt", "import ", "--output", str(output), "--cpu-memory", "12MiB")
    assert streamed.returncode == written.returncode == 0, streamed.stderr + written.stderr
    records = [json.loads(line) for line in output.read_text().splitlines()]
    assert {record["index"] for record in records} == {0, 1}
    first = next(record for record in records if record["index"] == 0)
    assert first["text"] == streamed.stdout.removesuffix("\n")
    assert first["num_output_tokens"] == 6


def test_trace_file_is_written(run: Run, tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    done = run("demo", "--max-tokens", "4", "--cpu-memory", "12MiB", "--trace", str(trace), "-q")
    assert done.returncode == 0, done.stderr
    kinds = {event.get("cat") for event in json.loads(trace.read_text())["traceEvents"]}
    assert {"read", "compute"} <= kinds


def test_plan_prints_json_without_loading_weights(run: Run, demo: Path) -> None:
    done = run("plan", str(demo), "--cpu-memory", "12MiB", "--json", "--batch-size", "2")
    plan = json.loads(done.stdout)
    assert sum(size for _, size in plan["memory"]) <= plan["budget_bytes"] == 12 << 20
    assert plan["streamed"]


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["generate", "no-such-folder/x/y", "--prompt", "a"], 4, "does not exist"),
        (["generate", "nobody/nothing", "--prompt", "a"], 4, "local Hugging Face cache"),
        (["generate", "/nowhere", "--prompt", "a"], 4, "'/nowhere' does not exist"),
        (["plan", "/nowhere"], 4, "downloaded before; or plan for a config"),
        (["generate", "DEMO"], 7, "No prompt"),
        (["generate", "DEMO", "--prompt", "a", "--cpu-memory", "lots"], 2, "not a size"),
        (["generate", "DEMO", "--prompt", "a", "--cpu-memory", "0"], 2, "positive"),
        (["generate", "DEMO", "--prompt", "a", "--cpu-memory", "9" * 400], 2, "not a size"),
        (["generate", "DEMO", "--prompt", "a", "--n", "9" * 30], 7, "1 to 16384"),
        (["generate", "x" * 5000, "--prompt", "a"], 4, "cannot be looked at"),
        (["plan", "x" * 5000], 4, "cannot be looked at"),
        (["generate", "DEMO", "--prompt", "a", "--cpu-memory", "1MiB"], 3, "smallest that works"),
        (["generate", "DEMO", "--prompt", "a", "--threads", "4096"], 2, "threads"),
        (["generate", "DEMO", "--prompt", "a", "--top-p", "2"], 7, "top_p"),
        (["generate", "DEMO", "--prompt", "a", "--max-tokens", "0"], 7, "max_tokens"),
        (["generate", "DEMO", "--prompt", "a", "--chat"], 7, "chat template"),
        (["generate", "DEMO", "--prompts-file", "missing.txt"], 7, "(No such file or directory)"),
        (["generate", "DEMO", "--prompt", "a", "--no-such-option"], 2, "No such option"),
        (["generate", "DEMO", "--prompt", "a", "--output", "no/such/out"], 2, "cannot be written"),
        (["generate", "DEMO", "--prompt", "a", "--trace", "."], 2, "cannot be written"),
    ],
)
def test_errors_are_one_sentence_with_their_own_status(
    run: Run, demo: Path, arguments: list[str], status: int, words: str
) -> None:
    done = run(*[str(demo) if word == "DEMO" else word for word in arguments])
    assert done.returncode == status, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_truncated_weights_are_named(run: Run, tmp_path: Path) -> None:
    folder = make_toy_checkpoint(tmp_path / "toy", "llama")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    done = run("generate", str(folder), "--prompt", "a")
    assert done.returncode == 4
    assert "truncated" in done.stderr


def test_version_is_json_without_loading_anything(run: Run) -> None:
    assert set(json.loads(run("version", "--json").stdout)) == {
        "lm_offload",
        "torch",
        "kernels",
        "threads",
    }


def test_several_completions_and_logprobs_are_in_the_line(run: Run, demo: Path) -> None:
    arguments = ["--prompt", "def f(", "--max-tokens", "3", "--n", "2", "--logprobs", "1", "-q"]
    done = run("generate", str(demo), *arguments, "--temperature", "1")
    record = json.loads(done.stdout)
    assert len(record["outputs"]) == 2
    assert [len(one["logprobs"]) for one in record["outputs"]] == [3, 3]


def test_interrupt_exits_with_130_and_keeps_finished_lines(
    run: Run, demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out.jsonl"
    write, written = prompts.write_output, []

    def write_and_interrupt(*arguments: Any) -> None:
        write(*arguments)
        written.append(arguments)
        if len(written) == 2:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("lm_offload.cli.generate.write_output", write_and_interrupt)
    many = ["--prompt", "a", "--prompt", "b", "--prompt", "c"]
    done = run("generate", str(demo), *many, "--max-tokens", "2", "-o", str(output))
    assert done.returncode == 130
    assert len([json.loads(line) for line in output.read_text().splitlines()]) == 2


def test_help_and_completion_do_without_torch(run: Run) -> None:
    code = "import sys, lm_offload.cli.main; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert "--install-completion" in run("--help").stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands(run: Run, monkeypatch: pytest.MonkeyPatch, shell: str) -> None:
    asked = {"_LM_OFFLOAD_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_ARGS": "lm-offload qu"}
    words = {"COMP_WORDS": "lm-offload qu", "COMP_CWORD": "1"}
    for name, value in {**asked, **words, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}.items():
        monkeypatch.setenv(name, value)
    assert "quantize" in run().stdout
