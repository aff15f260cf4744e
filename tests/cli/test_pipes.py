"""Beside other tools: standard input and output, readers that leave, shells, plain terminals."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lm_offload import __version__
from tests.cli.conftest import Run
from tests.cli.reference import verbs

COMMAND = [sys.executable, "-m", "lm_offload"]


def test_prompts_come_through_a_pipe_and_results_leave_through_one(demo: Path) -> None:
    arguments = ["generate", str(demo), "--prompts-file", "-", "-o", "-", "--max-tokens", "2"]
    done = subprocess.run(
        [*COMMAND, *arguments],
        input="def a(\n\ndef b(\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    prompts = {json.loads(line)["prompt"] for line in done.stdout.splitlines()}
    assert prompts == {"def a(", "def b("}
    assert not Path("-").exists()


def test_an_empty_pipe_is_named(run: Run, demo: Path) -> None:
    done = run("generate", str(demo), "--prompts-file", "-")
    assert done.returncode == 7
    assert "Standard input holds no prompt" in done.stderr


def test_nothing_is_resumed_from_standard_output(run: Run, demo: Path) -> None:
    done = run("generate", str(demo), "--prompt", "a", "-o", "-", "--resume")
    assert done.returncode == 2
    assert "without --output FILE" in done.stderr


def test_a_reader_that_leaves_ends_the_command_without_a_word(demo: Path) -> None:
    arguments = ["generate", str(demo), "--prompt", "import os", "--max-tokens", "400", "-q"]
    with subprocess.Popen(
        [*COMMAND, *arguments, "--ignore-eos"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        stderr = process.stderr.read()
    assert process.returncode == 1
    assert stderr == b""


@pytest.mark.parametrize("asked", ["-h", "--help"])
def test_short_and_long_help(run: Run, asked: str) -> None:
    assert "generate" in run(asked).stdout
    assert "--cpu-memory" in run("generate", asked).stdout


def test_the_version_is_an_option_too(run: Run) -> None:
    assert run("--version").stdout == f"lm-offload {__version__}\n"


def test_help_shows_options_in_panels(run: Run) -> None:
    shown = run("generate", "--help").stdout
    places = [shown.index(panel) for panel in ("Sampling", "Memory and precision", "How it runs")]
    assert places == sorted(places)
    assert places[0] < shown.index("--temperature") < places[1] < shown.index("--kv-format")


@pytest.mark.parametrize("verb", ["generate", "batch", "chat", "serve"])
def test_only_what_is_general_is_in_no_panel(verb: str) -> None:
    outside = {it.name for it in verbs()[verb].params if it.rich_help_panel is None}
    assert outside == {"model", "config"}


@pytest.mark.parametrize("verb", list(verbs()))
def test_help_is_plain_where_the_terminal_is(
    verb: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"TERM": "dumb", "NO_COLOR": "1", "COLUMNS": "40"}.items():
        monkeypatch.setenv(name, value)
    shown = run(*verb.split(), "--help").stdout
    assert "\x1b" not in shown
    assert max(map(len, shown.splitlines())) <= 40
    assert "Traceback" not in shown


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
def test_bash_completes_verbs_and_options(tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    command = folder / "lm-offload"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m lm_offload "$@"\n')
    command.chmod(0o755)
    script = """
        source <(_LM_OFFLOAD_COMPLETE=source_bash lm-offload)
        complete_with() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
            $(complete -p lm-offload | sed 's/.*-F \\([^ ]*\\).*/\\1/') lm-offload
            echo "${COMPREPLY[@]}"; }
        complete_with lm-offload gen
        complete_with lm-offload generate --cpu
        complete_with lm-offload plan --object
    """
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=False, env=environment
    )
    assert done.stdout.split() == ["generate", "--cpu-memory", "--objective"], done.stderr
