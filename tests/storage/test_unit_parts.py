"""Parts of units lie where their unit does, and hold what was written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_offload.arch.weights import Unit, WeightSpec
from lm_offload.quant.format import parse_format
from lm_offload.quant.packed import PackedWeight
from lm_offload.quant.packing import unpack
from lm_offload.quant.quantize import quantize
from lm_offload.storage.arena import MemoryTier
from lm_offload.storage.checkpoint import Checkpoint, FileStamp, open_checkpoint
from lm_offload.storage.layout import UnitLayout, layout_unit
from lm_offload.storage.packed_file import unit_layout
from lm_offload.storage.packed_layout import PackedTensor, PackedUnit
from lm_offload.storage.unit_parts import part_layout
from lm_offload.storage.weight_store import ReadSettings, WeightStore
from lm_offload.units import MIB, PAGE_BYTES, align_up
from tests.storage.files import write_shards

ROWS, COLUMNS = 40, 128


def store_of(checkpoint: Checkpoint, layouts: list[UnitLayout]) -> WeightStore:
    tier = MemoryTier("CPU", 4 * MIB)
    ring = tier.allocate("ring", MIB)
    return WeightStore(checkpoint, layouts, ReadSettings(PAGE_BYTES, 2), ring)


def staged(store: WeightStore, unit: int):
    for block in store.staging_blocks(unit, 0):
        block.read()
    return store.acquire(unit, 0)


@settings(max_examples=40)
@given(
    sizes=st.lists(st.integers(1, 30_000), min_size=2, max_size=6),
    first=st.sets(st.integers(0, 5), max_size=5),
    shards=st.lists(st.integers(0, 1), min_size=6, max_size=6),
    order=st.permutations(range(6)),
)
def test_every_tensor_of_a_part_is_right(tmp_path_factory, sizes, first, shards, order):
    folder = tmp_path_factory.mktemp("parts")
    names = [f"t{order[number]}" for number in range(len(sizes))]
    tensors = dict(zip(names, map(torch.randn, sizes), strict=True))
    files = {f"model-{shard}.safetensors": {} for shard in shards[: len(sizes)]}
    for name, shard in zip(sorted(names), shards, strict=False):
        files[f"model-{shard}.safetensors"][name] = tensors[name]
    write_shards(folder, files)
    specs = [WeightSpec(name, name, tuple(tensor.shape)) for name, tensor in tensors.items()]
    unit = Unit("mlp", 0, tuple(specs))
    chosen = [spec for number, spec in enumerate(specs) if number in first]
    rest = [spec for number, spec in enumerate(specs) if number not in first]
    checkpoint = open_checkpoint(folder)
    whole = layout_unit(checkpoint, unit)
    parts = [Unit("gate_up", 0, tuple(chosen)), Unit("down", 0, tuple(rest))]
    layouts = [part_layout(whole, unit, part) for part in parts]
    assert sum(it.weight_bytes for it in layouts) == whole.weight_bytes
    store = store_of(checkpoint, layouts)
    for number, (part, layout) in enumerate(zip(parts, layouts, strict=True)):
        assert layout.size_bytes % PAGE_BYTES == 0
        assert layout.name == part.name
        views = staged(store, number)
        assert {*views} == {spec.role for spec in part.weights}
        for role, view in views.items():
            assert torch.equal(view, tensors[role])
    store.close()


def write_packed(folder: Path, format: str) -> tuple[Unit, UnitLayout, Checkpoint, list]:
    """A unit of a norm and three packed matrices behind another one, in one file."""
    roles, stored = ("gate_proj", "up_proj", "down_proj"), parse_format(format)
    norm = torch.randn(COLUMNS)
    matrices = [quantize(torch.randn(ROWS, COLUMNS), stored, role) for role in roles]
    vector = PackedTensor("norm", "input_norm", parse_format("fp32"), (COLUMNS,), 0)
    tensors, content = [vector], norm.numpy().tobytes()
    for role, matrix in zip(roles, matrices, strict=True):
        content = content.ljust(align_up(len(content), 64), b"\0")
        tensors.append(PackedTensor(role, role, stored, (ROWS, COLUMNS), len(content)))
        content += matrix.data.numpy().tobytes()
    block = PackedUnit("unit", PAGE_BYTES, align_up(len(content)), tuple(tensors))
    data = folder / "weights.bin"
    data.write_bytes((b"\1" * PAGE_BYTES + content).ljust(PAGE_BYTES + block.size_bytes, b"\0"))
    specs = tuple(WeightSpec(it.name, it.role, it.shape) for it in tensors)
    checkpoint = Checkpoint(folder, {}, {data: FileStamp.of(data)})
    return Unit("mlp", 0, specs), unit_layout(block, data), checkpoint, [norm, *matrices]


@pytest.mark.parametrize("format", ["int8:64", "int4:32", "int4:64:sym", "fp8:row"])
def test_parts_of_a_packed_unit_are_read_where_it_lies(tmp_path, format):
    unit, whole, checkpoint, (norm, *matrices) = write_packed(tmp_path, format)
    parts = [Unit("gate_up", 0, unit.weights[:3]), Unit("down", 0, unit.weights[3:])]
    layouts = [part_layout(whole, unit, part) for part in parts]
    assert {run.path for it in layouts for run in it.runs} == {tmp_path / "weights.bin"}
    store = store_of(checkpoint, layouts)
    first = staged(store, 0)
    assert torch.equal(first["input_norm"], norm)
    assert same(first["gate_proj"], matrices[0])
    assert same(first["up_proj"], matrices[1])
    second = staged(store, 1)
    assert same(second["down_proj"], matrices[2])
    store.close()


@pytest.mark.parametrize("format", ["int8:64", "int4:32", "fp8:row"])
def test_rows_of_a_packed_matrix_are_a_part(tmp_path, format):
    unit, whole, checkpoint, (_, matrix, *_) = write_packed(tmp_path, format)
    spec = replace(unit.weights[1], rows=(16, 40))
    layout = part_layout(whole, unit, Unit("head", 0, (spec,)))
    store = store_of(checkpoint, [layout])
    view = staged(store, 0)["gate_proj"]
    assert view.shape == (24, COLUMNS)
    wanted, found = unpack(matrix), unpack(view)
    assert torch.equal(found.values, wanted.values[16:])
    assert torch.equal(found.scales, wanted.scales[16:])
    store.close()


def same(one: PackedWeight, other: PackedWeight) -> bool:
    return one.shape == other.shape and torch.equal(one.data, other.data)
