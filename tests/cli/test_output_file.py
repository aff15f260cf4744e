"""Finished prompts are appended whole or not at all, also where the disk is full."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from lm_offload.cli.output_file import appended
from lm_offload.errors import StorageError
from tests.cli.conftest import Run


def test_a_full_disk_is_one_sentence(run: Run, demo: Path) -> None:
    done = run(
        "generate", str(demo), "--prompt", "x", "--max-tokens", "1", "--cpu-memory", "12MiB",
        "--quiet", "--output", "/dev/full",
    )  # fmt: skip
    assert done.returncode == 8
    assert "error: /dev/full could not be written (No space left on device);" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("before", ["", "of others\n", "half a line of others"])
def test_lines_that_are_whole_stay_and_half_a_line_goes(tmp_path: Path, before: str) -> None:
    file = tmp_path / "out.jsonl"
    file.write_text(before)

    def fill() -> None:
        with appended(file) as sink:
            sink.write('{"index": 0}\n{"ind')
            sink.flush()
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StorageError, match=r"out\.jsonl could not be written"):
        fill()
    assert file.read_text() == before + '{"index": 0}\n'
