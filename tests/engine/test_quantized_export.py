"""A quantized folder of its own: complete without the checkpoint, opened like any model."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from lm_offload.engine.opening import open_model
from lm_offload.engine.quantized_export import quantize_model
from lm_offload.errors import CheckpointError, ConfigError, StorageError
from lm_offload.storage.packed_index import DATA_FILE, INDEX_FILE
from lm_offload.storage.packed_journal import JOURNAL_FILE
from tests.engine.harness import PLENTY, generate, open_llm, prompts_of, smallest_budget
from tests.quantized import damage, toy_shapes

PROMPTS = prompts_of(5, 20)
FORMAT = "int4:32"
TYPES = [
    ("llama", {"dtype": torch.bfloat16}),
    ("gemma2", {}),
    ("opt", {"word_embed_proj_dim": 32}),
]

pytestmark = pytest.mark.usefixtures("cache")


def ignore(done_bytes: int, total_bytes: int) -> None:
    """Nobody watches."""


@pytest.fixture
def source(toy, tmp_path) -> Path:
    """A checkpoint that the test may delete."""
    return Path(shutil.copytree(toy("llama", **toy_shapes("llama")), tmp_path / "model"))


def export(source: Path, target: Path, on_progress=ignore) -> Path:
    made = quantize_model(source, FORMAT, target, 1, on_progress)
    assert made.folder == target
    return target


@pytest.mark.parametrize(("model_type", "arguments"), TYPES)
def test_it_gives_the_same_tokens_without_its_source(toy, tmp_path, cache, model_type, arguments):
    origin = toy(model_type, **toy_shapes(model_type), **arguments)
    source = Path(shutil.copytree(origin, tmp_path / "model"))
    wanted = generate(source, PLENTY, PROMPTS, weight_format=FORMAT)
    folder = export(source, tmp_path / "made")
    shutil.rmtree(source)
    shutil.rmtree(cache)
    assert generate(folder, PLENTY, PROMPTS) == wanted
    smallest = smallest_budget(folder, PROMPTS, 8)
    assert generate(folder, smallest, PROMPTS, weight_format=FORMAT) == wanted
    assert {path.name for path in folder.iterdir()} >= {"config.json", DATA_FILE, INDEX_FILE}
    assert not list(folder.glob("*.safetensors*"))


def test_the_summary_is_exact(source, tmp_path):
    made = quantize_model(source, FORMAT, tmp_path / "made", 1, ignore)
    assert (made.model, made.format) == ("model", FORMAT)
    assert made.bytes_per_weight == pytest.approx(0.5 + 4 / 32, rel=0.01)  # rows are padded to 8
    assert made.size_bytes == (made.folder / DATA_FILE).stat().st_size
    assert made.checkpoint_bytes == open_model(source).weight_bytes


def test_it_is_taken_up_after_a_kill_and_done_once(source, tmp_path):
    def interrupt(done_bytes: int, total_bytes: int) -> None:
        if done_bytes > total_bytes / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(source, tmp_path / "made", interrupt)
    assert (tmp_path / "made" / JOURNAL_FILE).exists()
    with pytest.raises(CheckpointError, match="was interrupted; run the same lm-offload quantize"):
        open_model(tmp_path / "made")
    totals = []
    export(source, tmp_path / "made", lambda done, total: totals.append(total))
    assert totals[0] < open_model(source).weight_bytes * 0.75
    totals.clear()
    export(source, tmp_path / "made", lambda done, total: totals.append(total))
    assert totals == []


def test_a_folder_that_holds_something_else_is_refused(source, tmp_path):
    with pytest.raises(ConfigError, match="name a folder that is new or empty"):
        export(source, source)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is a file or holds something else"):
        export(source, tmp_path / "file")
    export(source, tmp_path / "made")
    with pytest.raises(ConfigError, match="holds something else"):
        quantize_model(source, "int8", tmp_path / "made", 1, ignore)


def test_damage_is_an_error_and_quantizing_again_mends_it(source, tmp_path):
    folder = export(source, tmp_path / "made")
    whole = (folder / DATA_FILE).read_bytes()
    damage(folder / DATA_FILE, 3)
    with pytest.raises(CheckpointError, match=r"is damaged in layers\.0\.attention; quantize the"):
        open_model(folder)
    export(source, folder)
    assert (folder / DATA_FILE).read_bytes() == whole
    open_model(folder)


def test_missing_and_foreign_files(source, tmp_path):
    folder = export(source, tmp_path / "made")
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace('"vocab_size": 131', '"vocab_size": 99'))
    with pytest.raises(CheckpointError, match=r"does not hold head\.0 as config\.json describes"):
        open_model(folder)
    (folder / "config.json").write_text(config)
    (folder / INDEX_FILE).write_text("{}")
    with pytest.raises(CheckpointError, match="is damaged"):
        open_model(folder)
    os.remove(folder / INDEX_FILE)
    with pytest.raises(CheckpointError, match="holds neither"):
        open_model(folder)


def test_a_copy_that_is_read_only_is_checked_at_every_start(source, tmp_path, caplog, monkeypatch):
    folder = export(source, tmp_path / "made")
    os.utime(folder / DATA_FILE, ns=(0, 0))

    def refuse(*arguments: object) -> None:
        raise PermissionError("Read-only file system")

    monkeypatch.setattr("lm_offload.storage.packed_folder.write_index", refuse)
    open_model(folder)
    assert "cannot be marked as checked" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight_format": "int8"}, "int8:64 was given, .* holds int4:32; leave the format out"),
        ({"exact": True}, "would be int4:32, which is not exact"),
    ],
)
def test_options_that_contradict_it(source, tmp_path, options, message):
    folder = export(source, tmp_path / "made")
    with pytest.raises(ConfigError, match=message):
        open_llm(folder, **options)


@pytest.mark.parametrize("again", [FORMAT, "fp32"])
def test_what_is_quantized_or_in_its_own_precision_is_not_quantized(source, tmp_path, again):
    model = export(source, tmp_path / "made") if again == FORMAT else source
    with pytest.raises(ConfigError, match="already; name an int8 or int4 format"):
        quantize_model(model, again, tmp_path / "more", 1, ignore)


def test_without_a_format_one_is_asked_for(source, tmp_path):
    with pytest.raises(ConfigError, match=r"No format was given.* is in fp32; name one with"):
        quantize_model(source, None, tmp_path / "more", 1, ignore)


def test_a_full_disk_leaves_nothing(source, tmp_path, monkeypatch):
    no_room = SimpleNamespace(free=4096)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: no_room)
    with pytest.raises(StorageError, match=r"has 4\.00 KiB free, the quantized weights need"):
        export(source, tmp_path / "made")
    assert list((tmp_path / "made").iterdir()) == []
