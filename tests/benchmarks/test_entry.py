"""How a benchmark ends that cannot run, and the file of one that can."""

from __future__ import annotations

import json

import pytest
from benchmarks.cgroup_version import CgroupUnavailableError
from benchmarks.entry import parser_of, result_parser, run
from benchmarks.part_file import write_whole
from benchmarks.result import report
from benchmarks.weight_files import largest_weight_file, weight_file_bytes

from lm_offload.errors import CheckpointError, ConfigError


def raising(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (ConfigError("No such thing."), 2, "error: No such thing."),
        (CgroupUnavailableError("No groups."), 2, "error: No groups."),
        (FileNotFoundError(2, "No such file", "a.json"), 8, "error: a.json cannot be read or"),
        (OSError(28, "No space left"), 8, "error: A file cannot be read or written (No space"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_what_a_user_can_mend_is_one_line_and_a_status(capsys, error, status, line):
    with pytest.raises(SystemExit) as ended:
        run(raising(error))
    assert ended.value.code == status
    told = capsys.readouterr().err
    assert told.startswith(line)
    assert told.count("\n") == 1


def test_a_mistake_of_the_program_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run(raising(ZeroDivisionError()))


def test_the_status_of_a_program_is_what_it_returns():
    with pytest.raises(SystemExit) as ended:
        run(lambda: 3)
    assert ended.value.code == 3


def test_the_first_line_of_a_module_describes_its_command_line():
    assert parser_of("What it does.\n\nMore.").description == "What it does."
    assert result_parser(None).parse_args(["--json", "a.json"]).json.name == "a.json"


def test_a_folder_without_weights_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="no safetensors files"):
        largest_weight_file(tmp_path)


def test_weight_files_are_counted_and_the_largest_found(tmp_path):
    for name, size in (("a.safetensors", 3), ("b.safetensors", 5), ("tokenizer.json", 9)):
        (tmp_path / name).write_bytes(bytes(size))
    assert weight_file_bytes(tmp_path) == 8
    assert largest_weight_file(tmp_path).name == "b.safetensors"


def test_rows_are_kept_as_they_come_and_survive_an_interruption(tmp_path, capsys):
    file = tmp_path / "out.json"

    def rows():
        yield {"a": 1}
        assert json.loads(file.read_text())["rows"] == [{"a": 0}, {"a": 1}]
        yield {"a": 2}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        report("kind", rows(), file, show=lambda row: f"a is {row['a']}", earlier=[{"a": 0}], of=7)
    kept = json.loads(file.read_text())
    assert (kept["benchmark"], kept["of"], len(kept["rows"])) == ("kind", 7, 3)
    assert kept["testbed"]["cores"] > 0
    assert capsys.readouterr().out == "a is 1\na is 2\n"


def test_the_last_line_of_a_benchmark_is_its_result(capsys):
    result = report("kind", [{"a": 1}], None, bed={"cpu": "C"})
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == result


def test_a_file_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    file = tmp_path / "out.json"
    write_whole(file, {"rows": [1]})
    monkeypatch.setattr("os.replace", raising_on_call(OSError(28, "No space left")))
    with pytest.raises(OSError, match="No space"):
        write_whole(file, {"rows": [2]})
    assert json.loads(file.read_text()) == {"rows": [1]}
    assert list(tmp_path.iterdir()) == [file]


def raising_on_call(error):
    def call(*args):
        raise error

    return call
