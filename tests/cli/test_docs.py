"""docs/cli.md says what the commands say, and its examples and the example config are valid."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer.main
import yaml

from lm_offload.cli.main import app
from tests.cli.conftest import Run
from tests.cli.reference import PAGE, verbs, with_tables

CONFIG = PAGE.parents[1] / "examples" / "config.yaml"


def test_every_table_is_that_of_the_command() -> None:
    page = PAGE.read_text()
    assert page == with_tables(page), "run: python -m tests.cli.reference"
    for name in verbs():
        assert f"<!-- options of {name}: begin -->" in page


def examples() -> list[str]:
    return re.findall(r"^    lm-offload ([a-z].*?)(?:  +#.*)?$", PAGE.read_text(), re.MULTILINE)


@pytest.mark.parametrize("example", examples())
def test_every_example_parses(example: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PAGE.parents[1])
    words = shlex.split(example.split(" < ")[0].split(" | ")[0])
    name = verb_of(example)
    context = typer.main.get_command(app).make_context("lm-offload", [name])
    arguments = words[len(name.split()) :]
    verbs()[name].make_context(name, arguments, parent=context).close()


def verb_of(example: str) -> str:
    """`generate`, or `cache list`: the longest name that the example begins with."""
    return max((name for name in verbs() if f"{example} ".startswith(f"{name} ")), key=len)


def test_there_are_examples_of_every_verb() -> None:
    assert {verb_of(example) for example in examples()} == verbs().keys()


def test_the_example_config_works(run: Run, demo: Path, tmp_path: Path) -> None:
    values = yaml.safe_load(CONFIG.read_text())
    assert values["cpu-memory"]
    done = run("generate", str(demo), "--config", str(CONFIG), "--max-tokens", "2", "--quiet")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(values["prompt"])


@pytest.mark.parametrize("verb", list(verbs()))
def test_every_verb_takes_json_and_config(verb: str, run: Run) -> None:
    keys = {name for option in verbs()[verb].params for name in option.opts}
    assert {"--json", "--config"} <= keys
    assert run(*verb.split(), "--help").returncode == 0
