"""Units read from files laid out in every way come out as what was written."""

import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lm_offload.arch.weights import Unit, WeightSpec
from lm_offload.errors import StorageError
from lm_offload.storage.arena import MemoryTier
from lm_offload.storage.checkpoint import open_checkpoint
from lm_offload.storage.layout import MERGE_GAP_BYTES, UnitLayout, layout_unit
from lm_offload.storage.weight_store import ReadSettings, WeightStore
from lm_offload.units import PAGE_BYTES
from tests.storage.files import write_shards

DTYPES = st.sampled_from([torch.float32, torch.bfloat16, torch.float16])
SHAPES = st.lists(st.integers(1, 60), min_size=1, max_size=2)


@st.composite
def checkpoints(draw):
    """Tensors, the shard of each, the unit of each, and the padding of the headers."""
    count = draw(st.integers(1, 8))
    tensors = [torch.randn(draw(SHAPES)).to(draw(DTYPES)) for _ in range(count)]
    shards = draw(st.lists(st.integers(0, 2), min_size=count, max_size=count))
    units = draw(st.lists(st.integers(0, 2), min_size=count, max_size=count))
    return tensors, shards, units, draw(st.integers(0, 9))


def unit_of(number: int, tensors: dict[str, Tensor]) -> Unit:
    specs = [WeightSpec(name, f"role of {name}", tuple(t.shape)) for name, t in tensors.items()]
    return Unit("mlp", number, tuple(specs))


def open_store(
    folder: Path, units: list[Unit], block_bytes: int = PAGE_BYTES
) -> tuple[WeightStore, list[UnitLayout], MemoryTier]:
    checkpoint = open_checkpoint(folder)
    layouts = [layout_unit(checkpoint, unit) for unit in units]
    sizes = [layout.size_bytes for layout in layouts]
    tier = MemoryTier("CPU", sum(sizes) + max(sizes))
    ring = tier.allocate("the ring", max(sizes))
    return WeightStore(checkpoint, layouts, ReadSettings(block_bytes, 2), ring), layouts, tier


def check_views(store: WeightStore, number: int, offset: int, tensors: dict[str, Tensor]) -> None:
    views = store.acquire(number, offset)
    assert views.keys() == {f"role of {name}" for name in tensors}
    for name, tensor in tensors.items():
        assert torch.equal(views[f"role of {name}"], tensor)


@settings(max_examples=60)
@given(checkpoints())
def test_every_unit_is_right_whether_resident_or_staged(case):
    tensors, shards, owners, pad = case
    files: dict[str, dict[str, Tensor]] = {}
    by_unit: list[dict[str, Tensor]] = [{}, {}, {}]
    for index, tensor in enumerate(tensors):
        files.setdefault(f"model-{shards[index]}.safetensors", {})[f"t{index}"] = tensor
        by_unit[owners[index]][f"t{index}"] = tensor
    with tempfile.TemporaryDirectory() as folder:
        units = [unit_of(number, held) for number, held in enumerate(by_unit)]
        store, layouts, tier = open_store(write_shards(Path(folder), files, pad), units)
        homes = {n: tier.allocate("a unit", layout.size_bytes) for n, layout in enumerate(layouts)}
        loaded_bytes = sum(store.load(homes))
        assert loaded_bytes <= sum(layout.size_bytes for layout in layouts)
        for number, held in enumerate(by_unit):
            check_views(store, number, -1, held)
            read_bytes = sum(block.read() for block in store.staging_blocks(number, 0))
            assert layouts[number].weight_bytes <= read_bytes <= layouts[number].size_bytes
            check_views(store, number, 0, held)
        store.close()


def test_a_tensor_split_by_rows_over_units(tmp_path):
    head = torch.randn(100, 7)
    write_shards(tmp_path, {"model-0.safetensors": {"head": head}}, pad=3)
    parts = [(0, 64), (64, 100)]
    units = [
        Unit("head", i, (WeightSpec("head", "head", (100, 7), p),)) for i, p in enumerate(parts)
    ]
    store, _, _ = open_store(tmp_path, units)
    for number, (first, last) in enumerate(parts):
        for block in store.staging_blocks(number, 0):
            block.read()
        assert torch.equal(store.acquire(number, 0)["head"], head[first:last])
    store.close()


def test_neighbours_are_one_run_and_distant_tensors_are_not(tmp_path):
    far = torch.zeros(MERGE_GAP_BYTES // 4 + 1)
    tensors = {"a": torch.ones(8), "b": torch.ones(8), "between": far, "c": torch.ones(8)}
    write_shards(tmp_path, {"model-0.safetensors": tensors})
    checkpoint = open_checkpoint(tmp_path)
    unit = unit_of(0, {name: tensors[name] for name in "abc"})
    layout = layout_unit(checkpoint, unit)
    assert len(layout.runs) == 2
    assert all(run.file_offset % PAGE_BYTES == 0 for run in layout.runs)
    assert layout.size_bytes == sum(run.size_bytes for run in layout.runs)
    assert layout.weight_bytes == 3 * 32


def test_views_of_the_ring_are_made_once_and_see_what_is_read(tmp_path):
    tensors = {"a": torch.randn(30)}
    write_shards(tmp_path, {"model-0.safetensors": tensors})
    store, _, _ = open_store(tmp_path, [unit_of(0, tensors)])
    views = store.acquire(0, 0)
    assert not views["role of a"].any()
    for block in store.staging_blocks(0, 0):
        block.read()
    assert store.acquire(0, 0) is views
    assert torch.equal(views["role of a"], tensors["a"])
    store.close()


def test_blocks_have_the_size_that_was_asked_for(tmp_path):
    tensors = {"a": torch.randn(5000)}
    write_shards(tmp_path, {"model-0.safetensors": tensors})
    store, layouts, _ = open_store(tmp_path, [unit_of(0, tensors)], 2 * PAGE_BYTES)
    sizes = [len(block.memory) for block in store.staging_blocks(0, 0)]
    assert sum(sizes) == layouts[0].size_bytes
    assert set(sizes[:-1]) == {2 * PAGE_BYTES}
    store.close()


def test_a_failing_load_is_a_storage_error(tmp_path, monkeypatch):
    tensors = {"a": torch.randn(5000)}
    write_shards(tmp_path, {"model-0.safetensors": tensors})
    store, layouts, tier = open_store(tmp_path, [unit_of(0, tensors)])
    home = tier.allocate("a unit", layouts[0].size_bytes)
    monkeypatch.setattr("os.preadv", lambda *args: 0)
    with pytest.raises(StorageError, match="truncated while in use"):
        list(store.load({0: home}))
    store.close()


def test_a_unit_takes_the_home_of_another():
    tensors = [torch.randn(40, 30), torch.randn(20, 30)]
    with tempfile.TemporaryDirectory() as folder:
        files = {f"model-{at}.safetensors": {f"t{at}": it} for at, it in enumerate(tensors)}
        units = [unit_of(at, {f"t{at}": it}) for at, it in enumerate(tensors)]
        store, layouts, tier = open_store(write_shards(Path(folder), files, 0), units)
        list(store.load({0: tier.allocate("a unit", layouts[0].size_bytes)}))
        store.take_home(1, 0)
        assert (store.has_home(0), store.has_home(1)) == (False, True)
        for block in store.staging_blocks(1, -1):
            block.read()
        check_views(store, 1, -1, {"t1": tensors[1]})
        with pytest.raises(KeyError):
            store.acquire(0, -1)
        store.take_home(1, 1)
        check_views(store, 1, -1, {"t1": tensors[1]})
        store.close()
