"""Prefix sharing on the command line, and the folder that outlives a command."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Run

TEXT = "def read_file(path):\n    with open(path) as file:\n        return file.read()\n" * 3


def generate(run: Run, demo: Path, *options: str) -> list[dict]:
    prompts = [argument for tail in "ab" for argument in ("--prompt", TEXT + tail)]
    done = run("generate", str(demo), *prompts, "--max-tokens", "4", "--json", *options)
    assert done.returncode == 0, done.stderr
    lines = sorted(map(json.loads, done.stdout.splitlines()), key=lambda line: line["index"])
    assert all(line["num_prompt_tokens"] > 40 for line in lines)
    return lines


def texts(lines: list[dict]) -> list[str]:
    return [line["text"] for line in lines]


def test_sharing_is_on_and_can_be_switched_off(run: Run, demo: Path) -> None:
    shared, apart = generate(run, demo), generate(run, demo, "--no-prefix-sharing")
    assert [line["num_cached_tokens"] > 0 for line in shared] == [False, True]
    assert [line["num_cached_tokens"] for line in apart] == [0, 0]
    assert texts(shared) == texts(apart)


def test_a_folder_outlives_the_command_and_can_be_emptied(
    run: Run, demo: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "prefixes"
    first = generate(run, demo, "--prefix-cache", str(folder))
    second = generate(run, demo, "--prefix-cache", str(folder))
    assert second[0]["num_cached_tokens"] > 0 == first[0]["num_cached_tokens"]
    assert texts(first) == texts(second)
    (entry,) = json.loads(run("cache", "prefixes", str(folder), "--json").stdout)["entries"]
    assert entry["blocks"] * 16 >= second[0]["num_cached_tokens"]
    (folder / "note.txt").touch()
    assert run("cache", "clear-prefixes", str(folder)).returncode == 2  # nobody can be asked
    done = run("cache", "clear-prefixes", str(folder), "--yes", "--json")
    assert json.loads(done.stdout)["freed_bytes"] == entry["size_bytes"]
    assert [path.name for path in folder.iterdir()] == ["note.txt"]


def test_a_folder_that_is_none_is_refused(run: Run, tmp_path: Path) -> None:
    done = run("cache", "prefixes", str(tmp_path / "nothing"))
    assert done.returncode == 2
    assert "is no folder" in done.stderr
