"""Where a value comes from: flag > environment > file > default."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer.main

from lm_offload.cli.main import app
from lm_offload.cli.settings import variable_of
from tests.cli.conftest import Run
from tests.cli.reference import verbs


@pytest.fixture
def plan_budget(run: Run, demo: Path) -> Any:
    """The budget that `plan` ends up with."""

    def budget(*arguments: str) -> int:
        done = run("plan", str(demo), "--json", *arguments)
        assert done.returncode == 0, done.stderr
        return int(json.loads(done.stdout)["budget_bytes"]) >> 20

    return budget


def test_flag_wins_over_environment_over_file_over_default(
    plan_budget: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("cpu-memory: 11MiB\n")
    assert plan_budget() > 100
    assert plan_budget("--config", str(file)) == 11
    monkeypatch.setenv("LM_OFFLOAD_CPU_MEMORY", "13MiB")
    assert plan_budget("--config", str(file)) == plan_budget() == 13
    assert plan_budget("--config", str(file), "--cpu-memory", "14MiB") == 14


def test_the_file_itself_may_be_named_by_the_environment(
    plan_budget: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(f"cpu-memory: {11 << 20}\n")  # bytes, as a number
    monkeypatch.setenv("LM_OFFLOAD_CONFIG", str(file))
    assert plan_budget() == 11


def test_lists_switches_and_the_model_come_from_a_file(
    run: Run, demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        f"model: {demo}\nprompt: [def a, def b]\nmax-tokens: 2\njson: true\nquiet: yes\n"
    )
    done = run("generate", "--config", str(file))
    assert [json.loads(line)["num_output_tokens"] for line in done.stdout.splitlines()] == [2, 2]
    monkeypatch.setenv("LM_OFFLOAD_PROMPT", "one line\nand another\nand one more")
    done = run("generate", "--config", str(file))
    assert {json.loads(line)["prompt"] for line in done.stdout.splitlines()} == {
        "one line",
        "and another",
        "and one more",
    }


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("cpu-memry: 1GiB", ["'cpu-memry' (did you mean cpu-memory?)", "batch-size"]),
        ("cpu_memory: 1GiB", ["'cpu_memory'", "cpu-memory"]),
        ("config: other.yaml", ["'config'"]),
        ("threads: 2.5", ["threads in bad.yaml", "2.5", "integer"]),
        ("threads: true", ["threads in bad.yaml", "integer"]),
        ("batch-size: 0", ["batch-size in bad.yaml", "0"]),
        ("json: perhaps", ["json in bad.yaml", "boolean"]),
        ("gen-len: [1, 2]", ["gen-len in bad.yaml", "a single value"]),
        ("gen-len:", ["gen-len in bad.yaml", "a single value"]),
        ("gen-len: null", ["gen-len in bad.yaml", "a single value"]),
        ("- cpu-memory", ["must hold lines"]),
        ("cpu-memory: [", ["cannot be read as YAML"]),
    ],
)
def test_bad_files_name_the_key_and_what_is_allowed(
    run: Run, demo: Path, tmp_path: Path, content: str, words: list[str]
) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(content)
    done = run("plan", str(demo), "--config", str(file))
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert all(word in done.stderr for word in words), done.stderr


def test_a_list_option_wants_a_list(run: Run, demo: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("stop: end")
    done = run("generate", str(demo), "--prompt", "a", "--config", str(tmp_path / "bad.yaml"))
    assert done.returncode == 2
    assert "allowed is a list" in done.stderr


def test_a_missing_file_is_an_error(run: Run, demo: Path) -> None:
    done = run("plan", str(demo), "--config", "missing.yaml")
    assert done.returncode == 2
    assert "missing.yaml" in done.stderr


def test_a_bad_variable_is_named(run: Run, demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LM_OFFLOAD_THREADS", "many")
    done = run("plan", str(demo))
    assert done.returncode == 2
    assert "LM_OFFLOAD_THREADS is 'many'" in done.stderr


def test_a_variable_of_no_option_is_named(
    run: Run, demo: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("LM_OFFLOAD_CPU_MEMRY", "1GiB")
    monkeypatch.setenv("LM_OFFLOAD_GRAMMAR", "x")
    monkeypatch.setenv("LM_OFFLOAD_API_KEY", "of another command")
    assert run("inspect", str(demo)).returncode == 0
    assert caplog.messages == [
        "LM_OFFLOAD_CPU_MEMRY is the variable of no option (did you mean cpu-memory?).",
        "LM_OFFLOAD_GRAMMAR is the variable of no option.",
    ]


@pytest.mark.parametrize(
    ("key", "sources", "flag", "wanted"),
    [
        ("cpu-memory", ["1GiB", "2GiB"], ["--cpu-memory", "3GiB"], ["1GiB", "2GiB", "3GiB"]),
        ("max-tokens", ["1", "2"], ["--max-tokens", "3"], [1, 2, 3]),
        ("temperature", ["0.1", "0.2"], ["--temperature", "0.3"], [0.1, 0.2, 0.3]),
        ("ignore-eos", ["true", "false"], ["--ignore-eos"], [True, False, True]),
        ("overlap", ["false", "true"], ["--no-overlap"], [False, True, False]),
        ("stop", ["[a]", "b\nc"], ["--stop", "d"], [["a"], ["b", "c"], ["d"]]),
        ("objective", ["latency", "throughput"], ["--objective", "latency"], None),
        ("trace", ["a", "b"], ["--trace", "c"], [Path("a"), Path("b"), Path("c")]),
        ("model", ["a", "b"], ["c"], ["a", "b", "c"]),
    ],
)
def test_every_kind_of_option_has_the_same_precedence(
    key: str,
    sources: list[str],
    flag: list[str],
    wanted: list[Any] | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("" if key == "model" else "model: a\n")
    with file.open("a") as opened:
        opened.write(f"{key}: {sources[0]}\n")
    given = ["--config", str(file)]
    found = [value_of(key, given)]
    monkeypatch.setenv(variable_of(key), sources[1])
    found += [value_of(key, given), value_of(key, [*given, *flag])]
    assert found == (wanted or [*sources, flag[-1]])


@pytest.mark.parametrize(
    ("key", "written", "wanted"),
    [
        ("speculation", "off", "off"),  # a boolean elsewhere in YAML
        ("stop", "[1.10, no, 0x10, 2020-01-01]", ["1.10", "no", "0x10", "2020-01-01"]),
        ("seed", "010", 10),  # as on the command line, not octal
        ("ignore-eos", "off", False),
        ("overlap", "on", True),
        ("cpu-memory", "12:30", "12:30"),  # no size, not 750 bytes
    ],
)
def test_values_of_a_file_are_the_text_that_is_written(
    key: str, written: str, wanted: Any, tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text(f"model: a\n{key}: {written}\n")
    assert value_of(key, ["--config", str(tmp_path / "config.yaml")]) == wanted


def value_of(key: str, arguments: list[str]) -> Any:
    """What `generate` would be called with."""
    context = typer.main.get_command(app).make_context("lm-offload", ["generate"])
    made = verbs()["generate"].make_context("generate", list(arguments), parent=context)
    (option,) = (it for it in made.command.params if it.opts[0].removeprefix("--") == key)
    return made.params[str(option.name)]
