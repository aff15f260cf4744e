import json
import os

import pytest
import torch

from lm_offload.arch.weights import WeightSpec
from lm_offload.errors import CheckpointChangedError, CheckpointError
from lm_offload.storage.checkpoint import INDEX_FILE, SINGLE_FILE, open_checkpoint
from lm_offload.storage.layout import find_extent
from tests.storage.files import numbered, write_file, write_shards

SHARDS = {
    "model-1.safetensors": {"a": numbered(2, 3)},
    "model-2.safetensors": {"b": numbered(4, dtype=torch.int8), "c": numbered(8, 2)},
}


def test_single_file(tmp_path):
    write_file(tmp_path / SINGLE_FILE, {"a": numbered(2)})
    checkpoint = open_checkpoint(tmp_path)
    assert list(checkpoint.tensors) == ["a"]
    assert list(checkpoint.stamps) == [tmp_path / SINGLE_FILE]


def test_shards(tmp_path):
    checkpoint = open_checkpoint(write_shards(tmp_path, SHARDS))
    assert {name: entry.path.name for name, entry in checkpoint.tensors.items()} == {
        "a": "model-1.safetensors",
        "b": "model-2.safetensors",
        "c": "model-2.safetensors",
    }


def test_a_folder_without_weights(tmp_path):
    with pytest.raises(CheckpointError, match=f"neither {SINGLE_FILE} nor {INDEX_FILE}"):
        open_checkpoint(tmp_path)


def test_a_missing_shard_is_named(tmp_path):
    write_shards(tmp_path, SHARDS)
    (tmp_path / "model-2.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model-2\.safetensors is missing"):
        open_checkpoint(tmp_path)


def test_a_tensor_in_two_shards(tmp_path):
    write_shards(tmp_path, SHARDS)
    write_file(tmp_path / "model-2.safetensors", {"a": numbered(2, 3)})
    with pytest.raises(CheckpointError, match="a is in both model-1"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "index",
    [
        "",
        "[]",
        "{}",
        '{"weight_map": {}}',
        '{"weight_map": []}',
        '{"weight_map": {"a": 1}}',
        '{"weight_map": {"a": null}}',
        '{"weight_map": {"a": "../model.safetensors"}}',
        '{"weight_map": {"a": "/etc/passwd"}}',
        '{"weight_map": {"a": "inner/model.safetensors"}}',
        '{"weight_map": {"a": ".."}}',
        '{"weight_map": {"a": ""}}',
        "[" * 100_000,
    ],
)
def test_an_index_that_is_none_or_leads_out_of_the_folder(tmp_path, index):
    folder = tmp_path / "folder"
    folder.mkdir()
    write_file(tmp_path / SINGLE_FILE, {"a": numbered(2)})
    (folder / INDEX_FILE).write_text(index)
    with pytest.raises(CheckpointError):
        open_checkpoint(folder)


def test_an_index_that_is_not_text(tmp_path):
    (tmp_path / INDEX_FILE).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CheckpointError, match="not a valid index"):
        open_checkpoint(tmp_path)


def test_a_symbolic_link_to_a_file_is_followed(tmp_path):
    """The local Hugging Face cache is made of such links."""
    (tmp_path / "snapshot").mkdir()
    write_file(tmp_path / "blob", {"a": numbered(2)})
    (tmp_path / "snapshot" / SINGLE_FILE).symlink_to(tmp_path / "blob")
    assert list(open_checkpoint(tmp_path / "snapshot").tensors) == ["a"]


@pytest.mark.parametrize("change", ["touch", "append", "replace", "remove"])
def test_a_change_is_noticed(tmp_path, change):
    path = write_file(tmp_path / SINGLE_FILE, {"a": numbered(2)})
    checkpoint = open_checkpoint(tmp_path)
    checkpoint.check_unchanged()
    if change == "touch":
        os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    elif change == "append":
        path.write_bytes(path.read_bytes() + b"x")
    elif change == "replace":
        other = write_file(tmp_path / "other", {"a": numbered(2)})
        os.utime(other, ns=(0, path.stat().st_mtime_ns))
        os.replace(other, path)
    else:
        path.unlink()
    with pytest.raises(CheckpointChangedError, match=r"model\.safetensors changed"):
        checkpoint.check_unchanged()


@pytest.mark.parametrize(
    ("name", "shape", "reason"),
    [
        ("absent", (2, 3), "Tensor absent is missing"),
        ("a", (3, 2), r"Tensor a has shape \[2, 3\], config.json asks for \[3, 2\]"),
        ("b", (4,), "Tensor b has dtype I8; allowed are F32, F16, BF16"),
    ],
)
def test_a_tensor_that_is_not_what_the_model_needs(tmp_path, name, shape, reason):
    checkpoint = open_checkpoint(write_shards(tmp_path, SHARDS))
    with pytest.raises(CheckpointError, match=reason):
        find_extent(checkpoint, WeightSpec(name, "role", shape))


def test_index_and_files_may_disagree_about_where_a_tensor_lies(tmp_path):
    write_shards(tmp_path, SHARDS)
    index = {"a": "model-2.safetensors", "c": "model-1.safetensors"}
    (tmp_path / INDEX_FILE).write_text(json.dumps({"weight_map": index}))
    assert open_checkpoint(tmp_path).tensors["a"].path.name == "model-1.safetensors"
