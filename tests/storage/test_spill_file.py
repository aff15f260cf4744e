"""A file without a name: what is written is read again, and failures are one sentence."""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path

import pytest

from lm_offload.errors import ConfigError, StorageError
from lm_offload.storage.spill_file import SECTOR_BYTES, SpillFile
from lm_offload.storage.spill_folder import spill_folder, spill_room_bytes

SIZE_BYTES = 1 << 20


def memory_of(size_bytes: int) -> memoryview:
    return memoryview(mmap.mmap(-1, size_bytes))


@pytest.fixture
def file(tmp_path: Path):
    opened = SpillFile(tmp_path / "new" / "folder", SIZE_BYTES)
    yield opened
    opened.close()


def test_sectors_come_back_and_no_name_is_left(file: SpillFile) -> None:
    assert not list(file.folder.iterdir())
    places = range(0, SIZE_BYTES, 9 * SECTOR_BYTES)
    written = memory_of(7 * SECTOR_BYTES)
    for place in places[:-1]:
        written[:] = bytes([place // SECTOR_BYTES % 251]) * len(written)
        assert file.write_from(written, place) == len(written)
    found = memory_of(7 * SECTOR_BYTES)
    for place in places[:-1]:
        assert file.read_into(found, place) == len(found)
        assert set(found) == {place // SECTOR_BYTES % 251}


def test_without_direct_transfers_the_bytes_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = os.pwrite

    def refuse_once(fd: int, data: memoryview, offset: int) -> int:
        monkeypatch.setattr(os, "pwrite", real)
        raise OSError(errno.EINVAL, "not aligned to a block")

    monkeypatch.setattr(os, "pwrite", refuse_once)
    file = SpillFile(tmp_path, SIZE_BYTES)
    assert not file.direct
    assert "goes through the page cache" in caplog.text
    file.write_from(memoryview(b"x" * SECTOR_BYTES), SECTOR_BYTES)
    found = memoryview(bytearray(SECTOR_BYTES))
    file.read_into(found, SECTOR_BYTES)
    assert bytes(found) == b"x" * SECTOR_BYTES
    file.close()


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(StorageError, match=r"cannot be used .*--spill-dir"):
        SpillFile(tmp_path / "taken", SIZE_BYTES)


def test_a_disk_without_room_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "posix_fallocate", failing(errno.ENOSPC))
    with pytest.raises(StorageError, match=r"needs 1\.00 MiB of disk in .*which has less"):
        SpillFile(tmp_path, SIZE_BYTES)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("call", "code", "words"),
    [
        ("preadv", errno.EIO, "Reading the KV cache in .* failed: .*check the disk"),
        ("pwrite", errno.EIO, "Writing the KV cache in .* failed: .*check the disk"),
        ("pwrite", errno.ENOSPC, "The disk of .* is full"),
    ],
)
def test_what_the_disk_says_is_one_sentence(file, monkeypatch, call, code, words) -> None:
    monkeypatch.setattr(os, call, failing(code))
    move = file.read_into if call == "preadv" else file.write_from
    with pytest.raises(StorageError, match=words):
        move(memory_of(SECTOR_BYTES), 0)


def failing(code: int):
    def fail(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    return fail


def test_room_is_that_of_the_disk(tmp_path: Path) -> None:
    free_bytes = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    assert 0 < spill_room_bytes(tmp_path / "not" / "there") <= free_bytes
    assert spill_folder("~/x") == Path.home() / "x"


def test_memory_is_no_disk() -> None:
    if not Path("/dev/shm").is_dir():
        pytest.skip("no file system in memory here")
    assert spill_room_bytes(Path("/dev/shm/x")) == 0


def test_a_folder_that_cannot_be_is_refused(tmp_path):
    file = tmp_path / "file"
    file.touch()
    for given in (file, file / "below"):
        with pytest.raises(ConfigError, match="is no folder that is writable"):
            spill_folder(given)
    assert spill_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert not (tmp_path / "a").exists()


def test_a_folder_in_memory_is_warned_of(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("lm_offload.storage.spill_folder._is_memory", lambda folder: True)
    spill_folder(tmp_path)
    assert "lies in memory" in caplog.text


def test_a_file_that_is_forgotten_or_closed_twice_gives_its_room_back(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    file = SpillFile(tmp_path, SIZE_BYTES)
    assert len(os.listdir("/proc/self/fd")) == before + 1
    del file
    assert len(os.listdir("/proc/self/fd")) == before
    file = SpillFile(tmp_path, SIZE_BYTES)
    file.close()
    file.close()  # the number may belong to another file by now
    assert len(os.listdir("/proc/self/fd")) == before
