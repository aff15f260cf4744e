"""Quantizing that is killed, a disk that is full, a cache that is damaged: never a wrong token."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import threading
from collections import namedtuple
from pathlib import Path

import pytest

from lm_offload.engine.opening import open_model, prepared
from lm_offload.engine.quantized_cache import list_entries, remove_entry, verify_entry
from lm_offload.engine.quantized_export import quantize_model
from lm_offload.errors import CheckpointChangedError, StorageError
from lm_offload.storage.packed_index import DATA_FILE, INDEX_FILE
from lm_offload.storage.packed_journal import JOURNAL_FILE
from tests.engine.harness import GREEDY, PLENTY, generate, open_llm, prompts_of
from tests.faults import refuse_direct
from tests.quantized import damage, toy_shapes

PROMPTS = prompts_of(5, 20)
FORMAT = "int4:64"


@pytest.fixture
def folder(toy) -> Path:
    return toy("llama", **toy_shapes("llama"))


def quantize(folder: Path, on_progress=lambda done, total: None) -> Path:
    """Make the entry of the cache and return its folder."""
    files = open_model(folder, FORMAT)
    packing = files.packing
    prepared(files, 1, on_progress)
    return packing.folder


def interrupt_after(count: int):
    """A progress callback that is hit by Ctrl-C."""
    calls = iter(range(count))

    def on_progress(done_bytes: int, total_bytes: int) -> None:
        if next(calls, None) is None:
            raise KeyboardInterrupt

    return on_progress


def files_of(entry: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in entry.iterdir()}


@pytest.mark.parametrize("count", [0, 1, 15, 28])
def test_a_killed_run_is_taken_up_where_it_was(folder, cache, count):
    whole = (quantize(folder) / DATA_FILE).read_bytes()
    remove_entry(list_entries()[0])
    with pytest.raises(KeyboardInterrupt):
        quantize(folder, interrupt_after(count))
    (entry,) = list_entries()
    assert entry.state == "unfinished"
    totals = []
    again = quantize(folder, lambda done, total: totals.append(total))
    assert (again / DATA_FILE).read_bytes() == whole
    assert files_of(again).keys() == {DATA_FILE, INDEX_FILE}
    source_bytes = sum(unit.size_bytes for unit in open_model(folder, FORMAT).packing.sources)
    assert (totals[0] < source_bytes) is (count > 10)
    assert list_entries()[0].state == "complete"


def test_a_block_that_was_damaged_between_two_runs_is_written_again(folder, cache):
    whole = (quantize(folder) / DATA_FILE).read_bytes()
    remove_entry(list_entries()[0])
    with pytest.raises(KeyboardInterrupt):
        quantize(folder, interrupt_after(20))
    damage(list_entries()[0].folder / DATA_FILE, 100)
    assert (quantize(folder) / DATA_FILE).read_bytes() == whole


def test_a_line_of_the_journal_that_was_not_finished_is_dropped(folder, cache):
    with pytest.raises(KeyboardInterrupt):
        quantize(folder, interrupt_after(20))
    journal = list_entries()[0].folder / JOURNAL_FILE
    journal.write_text(journal.read_text() + '{"layers.2.mlp": 12')
    assert list_entries()[0].state == "unfinished"
    quantize(folder)
    assert list_entries()[0].state == "complete"


def test_a_journal_of_something_else_is_forgotten(folder, cache):
    with pytest.raises(KeyboardInterrupt):
        quantize(folder, interrupt_after(20))
    (list_entries()[0].folder / JOURNAL_FILE).write_text('{"version": 0, "plan": 1}\n[]\n')
    quantize(folder)
    assert verify_entry(list_entries()[0]) is None


@pytest.mark.parametrize("offset", [0, 4096 * 3 + 7, -1])
def test_a_damaged_byte_is_noticed_and_mended_with_one_warning(folder, cache, caplog, offset):
    wanted = generate(folder, PLENTY, PROMPTS, weight_format=FORMAT)
    data = list_entries()[0].folder / DATA_FILE
    whole = data.read_bytes()
    damage(data, offset % len(whole))
    calls = []
    options = {"weight_format": FORMAT, "on_quantize": lambda done, total: calls.append(total)}
    assert generate(folder, PLENTY, PROMPTS, **options) == wanted
    assert data.read_bytes() == whole
    assert calls[-1] < sum(unit.size_bytes for unit in open_model(folder, FORMAT).packing.sources)
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "is damaged in" in record.message


def test_a_copied_cache_is_checked_once_and_kept(folder, cache, caplog, monkeypatch):
    entry = quantize(folder)
    os.utime(entry / DATA_FILE, ns=(0, 0))
    assert quantize(folder, interrupt_after(0)) == entry
    monkeypatch.setattr("lm_offload.storage.packed_folder.intact_blocks", None)
    assert quantize(folder, interrupt_after(0)) == entry
    assert caplog.records == []


def rewrite(change):
    return lambda index: index.write_text(change(index.read_text()))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (rewrite(lambda text: text[:-40]), "is damaged"),
        (rewrite(lambda text: text.replace('"int4:64"', '"int4:32"')), "checksum does not fit"),
        (rewrite(lambda text: text.replace('"version": 1', '"version": 0')), "another version"),
        (rewrite(lambda text: "[]"), "is damaged"),
        (rewrite(lambda text: '{"version": 1, "index": {}}'), "is damaged"),
        (lambda index: (index.parent / DATA_FILE).unlink(), "is missing from"),
        (lambda index: os.truncate(index.parent / DATA_FILE, 4096), "is damaged in"),
    ],
)
def test_an_entry_that_cannot_be_used_is_made_again(folder, cache, caplog, spoil, message):
    whole = (quantize(folder) / DATA_FILE).read_bytes()
    entry = list_entries()[0].folder
    spoil(entry / INDEX_FILE)
    assert (quantize(folder) / DATA_FILE).read_bytes() == whole
    assert [message in record.message for record in caplog.records] == [True]
    assert list_entries()[0].state == "complete"


def test_bits_that_rot_are_found_by_verify_and_mended_at_the_next_use(folder, cache, caplog):
    entry = quantize(folder)
    assert verify_entry(list_entries()[0]) is None
    data, status = entry / DATA_FILE, os.stat(entry / DATA_FILE)
    damage(data, 5000)
    os.utime(data, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert quantize(folder, interrupt_after(0)) == entry  # nothing to be seen from outside
    assert "is damaged in" in str(verify_entry(list_entries()[0]))
    quantize(folder)
    assert verify_entry(list_entries()[0]) is None
    assert len(caplog.records) == 1


Usage = namedtuple("Usage", "total used free")


def test_a_disk_without_room_is_refused_before_anything_is_written(folder, cache, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9 - 4096, 4096))
    with pytest.raises(StorageError, match=r"has 4\.00 KiB free, the quantized weights need"):
        quantize(folder)
    assert [path for path in cache.rglob("*") if path.is_file()] == []


def no_space(*arguments: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_disk_that_cannot_reserve_the_room(folder, cache, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", no_space)
        with pytest.raises(StorageError, match="No space left on device; make room"):
            quantize(folder)
    assert sum(path.stat().st_size for path in cache.rglob(DATA_FILE)) == 0
    assert verify_entry(list_entries()[0]) is not None
    quantize(folder)
    assert verify_entry(list_entries()[0]) is None


@pytest.mark.parametrize("writes", [0, 3, 7])
def test_a_disk_that_is_full_in_the_middle_is_gone_on_from(folder, cache, monkeypatch, writes):
    real_pwrite, left = os.pwrite, iter(range(writes))
    with monkeypatch.context() as patch:
        patch.setattr(
            os,
            "pwrite",
            lambda *call: no_space() if next(left, None) is None else real_pwrite(*call),
        )
        with pytest.raises(StorageError, match="start again to go on from here"):
            quantize(folder)
    assert list_entries()[0].state == "unfinished"
    quantize(folder)
    assert verify_entry(list_entries()[0]) is None


def test_a_disk_that_reserves_nothing_is_written_anyway(folder, cache, monkeypatch):
    def unsupported(*arguments: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", unsupported)
    quantize(folder)
    assert verify_entry(list_entries()[0]) is None


def test_a_cache_that_cannot_be_made(folder, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("LM_OFFLOAD_CACHE", str(tmp_path / "file"))
    with pytest.raises(StorageError, match="choose a folder that is writable"):
        quantize(folder)


def test_a_data_file_that_changes_while_running(folder, cache):
    def touch(sweep: object) -> None:
        os.utime(list_entries()[0].folder / DATA_FILE, ns=(0, 0))

    with (
        open_llm(folder, weight_format=FORMAT) as llm,
        pytest.raises(CheckpointChangedError, match=DATA_FILE),
    ):
        llm.generate(PROMPTS, GREEDY, on_sweep=touch)


@pytest.mark.parametrize("output", [None, "exported"])
def test_weights_that_change_while_they_are_quantized_are_not_kept(folder, cache, tmp_path, output):
    source = Path(shutil.copytree(folder, tmp_path / "source"))
    target = tmp_path / output if output else None

    def write_on(done_bytes: int, total_bytes: int) -> None:
        """As a download does that has not ended."""
        (weights,) = source.glob("*.safetensors")
        os.utime(weights)

    with pytest.raises(CheckpointChangedError, match="changed while it was in use"):
        quantize_model(source, FORMAT, target, 1, write_on)
    assert list_entries() == []
    assert not (target and any(target.iterdir()))
    assert quantize_model(source, FORMAT, target, 1, lambda done, total: None).size_bytes


def test_a_second_process_waits_for_the_first(folder, cache, caplog):
    def start_another(done: int, total: int) -> None:
        if not others:
            others.append(threading.Thread(target=lambda: found.append(quantize(folder))))
            others[0].start()
            while not caplog.records:
                pass

    others: list[threading.Thread] = []
    found: list[Path] = []
    entry = quantize(folder, start_another)
    others[0].join()
    assert found == [entry]
    assert "waiting for it" in caplog.text


def test_without_direct_transfers_the_bytes_are_the_same(folder, cache, monkeypatch):
    whole = (quantize(folder) / DATA_FILE).read_bytes()
    remove_entry(list_entries()[0])
    refuse_direct(monkeypatch)
    assert (quantize(folder) / DATA_FILE).read_bytes() == whole


def test_removing_an_entry_leaves_what_is_not_its_own(folder, cache):
    entry = quantize(folder)
    (entry / "notes.txt").write_text("mine")
    (entry / f"{INDEX_FILE}.tmp").write_text("left by a kill")
    (cache / "quantized" / "other").mkdir()
    remove_entry(list_entries()[0])
    assert [path.name for path in entry.iterdir()] == ["notes.txt"]
    assert list_entries() == []
    assert (cache / "quantized" / "other").is_dir()


def test_memory_is_bounded_by_pieces_not_by_the_matrix(folder, cache, monkeypatch):
    whole = (quantize(folder) / DATA_FILE).read_bytes()
    remove_entry(list_entries()[0])
    monkeypatch.setattr("lm_offload.storage.row_reader.PIECE_BYTES", 4096)
    monkeypatch.setattr("lm_offload.storage.block_writer.BUFFER_BYTES", 4096)
    assert (quantize(folder) / DATA_FILE).read_bytes() == whole
    assert verify_entry(list_entries()[0]) is None
