"""A file is replaced whole or not at all; a folder is held by one process at a time."""

from __future__ import annotations

import errno
import fcntl
import os

import pytest

from lm_offload.errors import StorageError
from lm_offload.storage.durable import locked, write_named, write_whole


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    write_whole(tmp_path / "index", b"old")
    monkeypatch.setattr(os, "fsync", lambda fd: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_whole(tmp_path / "index", b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("index", b"old")]


def test_a_pipe_takes_the_data_and_stays_a_pipe(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_named(pipe, b"data")
    assert os.read(reader, 10) == b"data"
    os.close(reader)
    assert pipe.is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_a_link_leads_to_the_same_place_afterwards(tmp_path):
    (tmp_path / "there").mkdir()
    link, target = tmp_path / "link", tmp_path / "there" / "file"
    target.write_bytes(b"old")
    link.symlink_to(target)
    write_named(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert [path.name for path in target.parent.iterdir()] == ["file"]


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(StorageError, match="Is a directory"):
        write_named(tmp_path, b"data")


def test_a_lock_is_given_back(tmp_path, caplog):
    with locked(tmp_path, "testing"):
        descriptor = os.open(tmp_path, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(descriptor)
    with locked(tmp_path, "testing"):
        assert caplog.records == []


def test_a_result_on_a_full_disk_is_one_sentence_and_leaves_the_old_one(tmp_path, monkeypatch):
    write_named(tmp_path / "plan.yaml", b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    message = r"plan\.yaml cannot be written \(No space left on device\); free some room"
    with pytest.raises(StorageError, match=message):
        write_named(tmp_path / "plan.yaml", b"new")
    found = [(path.name, path.read_text()) for path in tmp_path.iterdir()]
    assert found == [("plan.yaml", "old")]
