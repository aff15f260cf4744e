"""Files of prompts and files of results: odd text, what is left to do, and disks that are full."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lm_offload import __main__ as start
from lm_offload.cli.line_file import LineFile, line_sink, read_records
from lm_offload.cli.prompts import left_to_do, read_prompts
from lm_offload.errors import ConfigError, RequestError, StorageError
from tests.cli.conftest import Run


def write(file: Path, content: bytes) -> Path:
    file.write_bytes(content)
    return file


@pytest.mark.parametrize(
    ("name", "content", "wanted"),
    [
        ("a.txt", b"one\n\n  \ntwo", ["one", "two"]),
        ("a.txt", b"\xef\xbb\xbfone\r\ntwo \r\n", ["one", "two "]),  # as Windows writes them
        ("a.txt", "a\u2028b\x0cc\nd".encode(), ["a\u2028b\x0cc", "d"]),
        ("a.jsonl", '{"prompt": "a\u2028b\\nc"}\n'.encode(), ["a\u2028b\nc"]),
    ],
)
def test_only_line_feeds_end_a_prompt(
    tmp_path: Path, name: str, content: bytes, wanted: list[str]
) -> None:
    assert read_prompts(["x"], write(tmp_path / name, content)) == ["x", *wanted]


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf"])
def test_a_file_without_prompts_is_named(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(RequestError, match=r"empty\.txt holds no prompt"):
        read_prompts([], write(tmp_path / "empty.txt", content))


@pytest.mark.parametrize("line", ["[1]", '"text"', "{", '{"prompt": 5}', '{"text": "a"}'])
def test_a_line_without_a_prompt_is_named(tmp_path: Path, line: str) -> None:
    file = write(tmp_path / "a.jsonl", b'{"prompt": "a"}\n\n' + line.encode())
    with pytest.raises(RequestError, match=r"a\.jsonl:3 is not a line like"):
        read_prompts([], file)


def test_a_byte_that_is_no_text_is_named_with_its_line(tmp_path: Path) -> None:
    file = write(tmp_path / "a.txt", "é\nb\n".encode() + b"caf\xe9\nlast")
    with pytest.raises(RequestError, match=r"a\.txt:3 .*byte 0xe9 is no UTF-8; save the file"):
        read_prompts([], file)


def test_one_json_value_is_not_taken_for_prompts(tmp_path: Path) -> None:
    file = write(tmp_path / "a.json", b'[{"prompt": "a"},\n{"prompt": "b"}]')
    with pytest.raises(RequestError, match=r"a\.json was given, one JSON value; give a \.jsonl"):
        read_prompts([], file)


def test_keys_that_would_be_ignored_are_named(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", b'{"prompt": "a", "max_tokens": 5, "id": 1}')
    wanted = r"a\.jsonl:1 has 'max_tokens', 'id' beside \"prompt\""
    with pytest.raises(RequestError, match=wanted):
        read_prompts([], file)


@pytest.mark.parametrize("prompt", ["a\udcffb", "\ud800"])
def test_half_a_character_is_refused(run: Run, demo: Path, prompt: str) -> None:
    done = run("generate", str(demo), "--prompt", prompt, "-q")
    assert done.returncode == 7
    assert "no text at" in done.stderr


def generate(run: Run, demo: Path, output: Path, *prompts: str, resume: bool = False) -> str:
    arguments = [word for prompt in prompts for word in ("--prompt", prompt)]
    arguments += ["--max-tokens", "4", "-o", str(output), *["--resume"] * resume]
    done = run("generate", str(demo), *arguments)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_a_run_that_was_cut_off_is_gone_on_with(run: Run, demo: Path, tmp_path: Path) -> None:
    prompts = "import os", "def f(x):", "class A:"
    generate(run, demo, tmp_path / "whole", *prompts)
    wanted = {
        record["index"]: record["text"]
        for record in read_records(tmp_path / "whole", {"index": int})
    }
    lines = (tmp_path / "whole").read_bytes().splitlines(keepends=True)
    cut = write(tmp_path / "cut", lines[0] + lines[1][:20])  # as if killed while writing

    generate(run, demo, cut, *prompts, resume=True)
    found = read_records(cut, {"index": int})
    assert {record["index"]: record["text"] for record in found} == wanted
    assert len(found) == len(prompts)
    assert "already (3)" in generate(run, demo, cut, *prompts, resume=True)
    assert len(read_records(cut, {"index": int})) == len(prompts)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (["--temperature", "0.5"], "made with temperature as by default, now it is 0.5; give"),
        (["--max-tokens", "5"], "prompt 0 that was made with max_tokens 4, now it is 5"),
        (["--kv-format", "int8"], "made with kv_format 'bf16', now it is 'int8:row'"),
        (["--weight-format", "int8"], "made with weight_format 'bf16', now it is 'int8"),
        (["--weight-format", "auto"], "made with weight_format 'bf16', now it is 'auto'"),
        (["--bad-words", "x" * 80], r"made with bad_words as by default, now it is 'sha256:"),
    ],
)
def test_a_run_of_other_options_is_not_gone_on_with(
    run: Run, demo: Path, tmp_path: Path, changed: list[str], words: str
) -> None:
    output = tmp_path / "out"
    generate(run, demo, output, "import os")
    before = output.read_bytes()
    arguments = ["--prompt", "import os", "--prompt", "x", "--max-tokens", "4", *changed]
    done = run("generate", str(demo), *arguments, "-o", str(output), "--resume")
    assert done.returncode == 2
    assert re.search(words, done.stderr)
    assert output.read_bytes() == before


def test_results_are_not_put_among_their_prompts(run: Run, demo: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "prompts.txt", b"import os\n")
    done = run("generate", str(demo), "--prompts-file", str(file), "-o", str(file))
    assert done.returncode == 2
    assert "name another output" in done.stderr
    assert file.read_bytes() == b"import os\n"


def test_prompts_that_ended_with_an_error_are_left_to_do(tmp_path: Path) -> None:
    records = {"index": 1, "prompt": "b"}, {"index": 0, "prompt": "a", "error": "no room"}
    file = write(tmp_path / "out", "\n".join(map(json.dumps, records)).encode() + b"\n")
    assert left_to_do(["a", "b", "c"], file, {}) == [0, 2]
    assert left_to_do(["a", "b"], tmp_path / "none", {}) == [0, 1]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"index": 0, "prompt": "other"}\n', "of other prompts"),
        (b'{"index": 7, "prompt": "a"}\n', "of other prompts"),
        (b"notes of mine\n", "cannot be gone on with"),
        (b'"text"\n', "is no line of an output"),
    ],
)
def test_another_file_is_not_gone_on_with(tmp_path: Path, content: bytes, words: str) -> None:
    file = write(tmp_path / "out", content)
    with pytest.raises(ConfigError, match=words):
        left_to_do(["a"], file, {})
    assert file.read_bytes() == content


def test_resume_wants_a_file(run: Run, demo: Path) -> None:
    done = run("generate", str(demo), "--prompt", "a", "--resume")
    assert done.returncode == 2
    assert "without --output" in done.stderr


class FullDisk(io.FileIO):
    """Room for a few bytes more, then none."""

    room_bytes = 40

    def write(self, data: memoryview) -> int:
        if not self.room_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        count = super().write(data[: self.room_bytes])
        self.room_bytes -= count
        return count


def test_of_a_line_that_does_not_fit_nothing_stays(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with FullDisk(path, "a") as file:
        sink = LineFile(path, file)
        sink.write({"index": 0})
        with pytest.raises(StorageError, match="free some room and go on"):
            sink.write({"index": 1, "text": "x" * 100})
    assert read_records(path, {"index": int}) == [{"index": 0}]


def test_a_full_disk_is_one_sentence(run: Run, demo: Path) -> None:
    done = run("generate", str(demo), "--prompt", "a", "--max-tokens", "2", "-o", "/dev/full")
    assert done.returncode == 8
    assert "No space left" in done.stderr


def test_standard_output_on_a_full_disk() -> None:
    command = [sys.executable, "-m", "lm_offload", "simulate", "--help"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 8
    assert done.stderr.startswith("error: Standard output or a file cannot be")
    assert done.stderr.count("\n") == 1


def test_ctrl_c_while_modules_are_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*names: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("builtins.__import__", interrupt)
    with pytest.raises(SystemExit) as stop:
        start.main()
    assert stop.value.code == 130


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written"), line_sink(tmp_path):
        pass


@pytest.mark.parametrize("option", ["--save", "--trace"])
def test_files_beside_a_report_that_cannot_be_written(run: Run, option: str) -> None:
    done = run("simulate", "--config", "opt-6.7b", "--machine", "t4-208gb", option, "/proc/x")
    assert done.returncode == 8
    assert "/proc/x cannot be written" in done.stderr


def test_an_encoding_without_all_characters(
    run: Run, demo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    arguments = ["--prompt", "# é", "--max-tokens", "2", "--json", "-q"]
    run("generate", str(demo), *arguments)
    assert json.loads(raw.getvalue())["prompt"] == "# é"
