"""The docs say what the commands say, and their examples are valid: commands, Python, links."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path

import pytest
import typer.main
import yaml

from lm_offload.cli.main import app
from tests.cli.conftest import Run
from tests.cli.reference import PAGE, verbs, with_tables

ROOT = PAGE.parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
CONFIG = ROOT / "examples" / "config.yaml"
COMMAND = re.compile(r"^(?: {4}|\$ )lm-offload ([a-z].*?)(?:  +#.*)?$", re.MULTILINE)
PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(\s*([^)\s]+)\s*\)")


def test_every_table_is_that_of_the_command() -> None:
    page = PAGE.read_text()
    assert page == with_tables(page), "run: python -m tests.cli.reference"
    for name in verbs():
        assert f"<!-- options of {name}: begin -->" in page


def examples(*pages: Path) -> list[str]:
    return list(dict.fromkeys(it for page in pages for it in COMMAND.findall(page.read_text())))


@pytest.mark.parametrize("example", examples(*PAGES))
def test_every_example_parses(example: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    words = shlex.split(re.split(" [<|] ", example)[0])
    name = verb_of(example)
    context = typer.main.get_command(app).make_context("lm-offload", [name])
    arguments = words[len(name.split()) :]
    verbs()[name].make_context(name, arguments, parent=context).close()


def verb_of(example: str) -> str:
    """`generate`, or `cache list`: the longest name that the example begins with."""
    return max((name for name in verbs() if f"{example} ".startswith(f"{name} ")), key=len)


def test_there_are_examples_of_every_verb() -> None:
    assert {verb_of(example) for example in examples(PAGE)} == verbs().keys()


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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for link in LINK.findall(page.read_text()):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def anchors(page: Path) -> set[str]:
    """Of headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def python_blocks() -> list[tuple[str, str]]:
    return [(page.name, block) for page in PAGES for block in PYTHON.findall(page.read_text())]


@pytest.mark.parametrize(("page", "block"), python_blocks())
def test_python_in_the_pages_compiles(page: str, block: str) -> None:
    compile(block, page, "exec")


@pytest.mark.parametrize("page", ["README.md", "python.md", "server.md"])
def test_python_of_the_first_pages_runs(page: str, chatty: Path) -> None:
    (source,) = ["\n".join(b for name, b in python_blocks() if name == page)]
    source = source.replace("path/to/checkpoint", str(chatty)).replace("8GiB", "64MiB")
    exec(compile(source, page, "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("name", ["offline_batch.py", "stream_and_chat.py"])
def test_the_example_programs_run(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], chatty: Path
) -> None:
    monkeypatch.setattr("sys.argv", [name, str(chatty), "64MiB"])
    runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")
    assert len(capsys.readouterr().out) > 100
