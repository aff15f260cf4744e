import json
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from lm_offload.errors import CheckpointError
from lm_offload.storage.safetensors_header import read_header
from tests.storage.files import header_of, numbered, raw_bytes, write_file

TENSORS = {"a": numbered(2, 3), "b": numbered(5, dtype=torch.bfloat16), "c": numbered(4, 1)}
VALID = raw_bytes(header_of(TENSORS), TENSORS)
HEADER_END = len(VALID) - sum(tensor.nbytes for tensor in TENSORS.values())


def parse_safely(content: bytes) -> None:
    """Nothing but a CheckpointError, or entries that lie in the file and do not overlap."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        path.write_bytes(content)
        try:
            entries = sorted(read_header(path).values(), key=lambda entry: entry.offset)
        except CheckpointError:
            return
    position = 8
    for entry in entries:
        assert position <= entry.offset
        position = entry.offset + entry.size_bytes
    assert position <= max(len(content), 8)


def test_agrees_with_the_reference_implementation(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(TENSORS, path, metadata={"format": "pt"})
    entries = read_header(path)
    content = path.read_bytes()
    assert entries.keys() == TENSORS.keys()
    for name, entry in entries.items():
        data = content[entry.offset : entry.offset + entry.size_bytes]
        found = torch.frombuffer(bytearray(data), dtype=TENSORS[name].dtype).view(entry.shape)
        assert torch.equal(found, TENSORS[name])


@given(st.lists(st.tuples(st.integers(0, HEADER_END - 1), st.integers(0, 255)), max_size=6))
def test_random_bytes_in_the_header(changes):
    content = bytearray(VALID)
    for position, value in changes:
        content[position] = value
    parse_safely(bytes(content))


@given(st.integers(0, len(VALID)))
def test_every_truncation(length):
    parse_safely(VALID[:length])


@given(st.binary(max_size=200))
def test_random_files(content):
    parse_safely(content)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
FIELD = st.sampled_from(["dtype", "shape", "data_offsets"])


@given(st.sampled_from(["a", "b", "c"]), FIELD, ANYTHING)
@example("a", "shape", [2**62, 2**62])
@example("a", "data_offsets", [True, 24])
@example("a", "dtype", ["F32"])
def test_any_value_in_any_field(name, field, value):
    header = header_of(TENSORS)
    header[name][field] = value
    parse_safely(raw_bytes(header, TENSORS))


@settings(max_examples=50)
@given(ANYTHING)
def test_any_json_as_header(value):
    parse_safely(raw_bytes(value, TENSORS))


def broken(**changes) -> bytes:
    header = header_of(TENSORS)
    header["b"].update(changes)
    return raw_bytes(header, TENSORS)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "its header claims 0 bytes, the file has 0"),
        (VALID[:5], "the file has 5"),
        (VALID[:-1], "truncated"),
        (VALID[: HEADER_END - 3], "its header claims"),
        ((2**62).to_bytes(8, "little") + VALID[8:], "its header claims"),
        (broken(data_offsets=[20, 30]), "overlaps"),
        (broken(data_offsets=[24, 36]), "tensor b has .* need another number"),
        (broken(data_offsets=[34, 24]), "tensor b has .* need another number"),
        (broken(data_offsets=[-10, 0]), "tensor b has .* not a natural number"),
        (broken(shape=[-5]), "tensor b has .* not a natural number"),
        (broken(dtype="F13"), "tensor b has the unknown dtype 'F13'"),
        (broken(dtype=["F32"]), "tensor b has no valid dtype, shape and data_offsets"),
        (broken(data_offsets=7), "tensor b has no valid dtype, shape and data_offsets"),
        (broken(data_offsets=[0, 1, 2]), "tensor b has no valid dtype, shape and data_offsets"),
        (broken(shape=None), "tensor b has no valid dtype, shape and data_offsets"),
        (raw_bytes({"b": 5}, {}), "tensor b has no valid dtype, shape and data_offsets"),
        (b"\x02" + bytes(7) + b"{]" + bytes(8), "not valid"),
        (raw_bytes([1], {}), "not valid"),
    ],
)
def test_damage_is_named_in_one_sentence(tmp_path, content, reason):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=reason) as caught:
        read_header(path)
    assert str(caught.value).startswith("Weight file model.safetensors is damaged")
    assert str(caught.value).endswith("; download or copy it again.")


def test_a_deeply_nested_header_is_only_damaged(tmp_path):
    text = b"[" * 200_000
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(CheckpointError, match="damaged"):
        read_header(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"x\.safetensors is missing"):
        read_header(tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_header(tmp_path)


def test_empty_tensors_and_metadata_are_allowed(tmp_path):
    header = {"__metadata__": {"format": "pt"}, **header_of({"none": torch.empty(0, 4)})}
    path = tmp_path / "model.safetensors"
    path.write_bytes(raw_bytes(header, {}))
    assert read_header(path)["none"].size_bytes == 0


@pytest.mark.parametrize("pad", range(8))
def test_offsets_hold_whatever_the_length_of_the_header(tmp_path, pad):
    path = write_file(tmp_path / "model.safetensors", TENSORS, pad)
    entry = read_header(path)["c"]
    data = path.read_bytes()[entry.offset : entry.offset + entry.size_bytes]
    assert data == TENSORS["c"].numpy().tobytes()
    assert json.loads(path.read_bytes()[8 : entry.offset - 34]) == header_of(TENSORS)
