import ctypes
import errno
import mmap
import os
import time

import pytest

from lm_offload.errors import StorageError
from lm_offload.storage.direct_file import DirectFile, open_files
from lm_offload.units import PAGE_BYTES
from tests.faults import refuse_direct

SIZE_BYTES = 5 * PAGE_BYTES + 123


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "weights"
    with path.open("wb") as file:
        file.write(bytes(index % 251 for index in range(SIZE_BYTES)))
        file.flush()
        os.fsync(file.fileno())
        wait_until_dropped(file.fileno(), path)
    return path


def wait_until_dropped(descriptor: int, path) -> None:
    """Pages that the file system still holds when they were written are dropped at a later try."""
    deadline_s = time.monotonic() + 10
    while cached_pages(path):
        assert time.monotonic() < deadline_s, "the file's own pages cannot be dropped"
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


@pytest.fixture
def no_direct(monkeypatch):
    refuse_direct(monkeypatch)


def read(path, offset: int, size: int) -> tuple[int, bytes]:
    file, buffer = DirectFile(path), mmap.mmap(-1, size)
    try:
        return file.read_into(memoryview(buffer), offset), bytes(buffer)
    finally:
        file.close()


def check_reads(path) -> None:
    content = path.read_bytes()
    assert read(path, 0, 2 * PAGE_BYTES) == (2 * PAGE_BYTES, content[: 2 * PAGE_BYTES])
    count, data = read(path, 4 * PAGE_BYTES, 4 * PAGE_BYTES)
    assert count == PAGE_BYTES + 123
    assert data[:count] == content[4 * PAGE_BYTES :]


def cached_pages(path) -> int:
    """Pages of a file in the page cache; `mincore` only looks, where a probing read reads ahead."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        start = ctypes.c_char.from_buffer(mapped)
        found = (ctypes.c_ubyte * -(-len(mapped) // PAGE_BYTES))()
        libc = ctypes.CDLL(None, use_errno=True)
        size = ctypes.c_size_t(len(mapped))
        failed = libc.mincore(ctypes.byref(start), size, found)
        del start  # or the mapping cannot be closed
        assert not failed, os.strerror(ctypes.get_errno())
    return sum(page & 1 for page in found)


def test_reads_whole_pages_and_the_end_of_the_file(path):
    check_reads(path)


def test_reads_the_same_without_direct_reads(path, no_direct):
    check_reads(path)


def test_leaves_nothing_in_the_page_cache(path):
    read(path, 0, 8 * PAGE_BYTES)
    assert cached_pages(path) == 0


def test_leaves_nothing_in_the_page_cache_without_direct_reads(path, no_direct):
    for offset in range(0, SIZE_BYTES, PAGE_BYTES):
        read(path, offset, PAGE_BYTES)
    assert cached_pages(path) == 0


def test_one_warning_for_all_files_of_a_file_system_without_direct_reads(path, no_direct, caplog):
    other = path.with_name("other")
    other.write_bytes(b"1")
    files = open_files([path, other, path])
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "No direct reads on the file system of other" in caplog.text
    assert list(files) == [other, path]
    for file in files.values():
        file.close()


def test_an_error_of_the_disk_names_file_and_place(path, monkeypatch):
    def fail(*args):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(StorageError, match=r"Reading weights at byte 4096 failed: .*Input"):
        read(path, PAGE_BYTES, PAGE_BYTES)


def test_a_file_that_became_shorter_is_an_error(path):
    file, buffer = DirectFile(path), mmap.mmap(-1, 8 * PAGE_BYTES)
    os.truncate(path, 2 * PAGE_BYTES)
    with pytest.raises(StorageError, match="ended at byte 8192, expected 20603; it was truncated"):
        file.read_into(memoryview(buffer), 0)
    file.close()


def test_short_reads_are_continued(path, monkeypatch):
    real_preadv = os.preadv
    monkeypatch.setattr(
        os, "preadv", lambda fd, buffers, offset: real_preadv(fd, [buffers[0][:4096]], offset)
    )
    check_reads(path)


def test_a_missing_file_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError, match="absent cannot be opened"):
        DirectFile(tmp_path / "absent")
