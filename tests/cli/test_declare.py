"""Output files are checked before a command runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lm_offload.engine.output_file import check_writable
from lm_offload.errors import ConfigError


def test_a_pipe_needs_no_writable_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    monkeypatch.setattr(os, "access", lambda path, mode: path == pipe)
    assert check_writable(pipe) == pipe
    with pytest.raises(ConfigError, match="name a file in a folder that is writable"):
        check_writable(tmp_path / "file")
