"""Quantized folders: any units in any format come out of the weight store as they went in."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_offload.arch.weights import Unit, WeightSpec
from lm_offload.errors import ConfigError
from lm_offload.quant.format import Format, parse_format
from lm_offload.quant.packed import PackedWeight
from lm_offload.quant.quantize import quantize
from lm_offload.storage.arena import MemoryTier
from lm_offload.storage.checkpoint import Checkpoint, FileStamp, open_checkpoint
from lm_offload.storage.packed_encode import Encoder
from lm_offload.storage.packed_folder import Packing, packed_layouts
from lm_offload.storage.packed_index import PackedPlan, read_index
from lm_offload.storage.packed_layout import TENSOR_ALIGNMENT, UnitSource, place_units
from lm_offload.storage.tensor_source import own_tensors
from lm_offload.storage.weight_store import ReadSettings, WeightStore
from lm_offload.units import PAGE_BYTES
from tests.quantized import same_tensor
from tests.storage.files import write_shards

FORMATS = [
    "int8:32",
    "int8:64",
    "int8:row",
    "int4:32",
    "int4:64:sym",
    "int4:128",
    "fp8:32",
    "fp8:row",
]
DTYPES = st.sampled_from([torch.float32, torch.bfloat16, torch.float16])


@st.composite
def models(draw):
    """Units of tensors by name: matrices of 128 or 256 columns, and vectors."""
    shapes = st.one_of(
        st.tuples(st.integers(1, 40), st.sampled_from([128, 256])), st.tuples(st.integers(1, 99))
    )
    tensors = st.tuples(shapes, DTYPES)
    units = draw(st.lists(st.lists(tensors, max_size=3), max_size=2))
    units.append(draw(st.lists(tensors, min_size=1, max_size=3)))
    return [
        {f"u{i}.t{j}": torch.randn(*shape).to(dtype) for j, (shape, dtype) in enumerate(tensors)}
        for i, tensors in enumerate(units)
    ]


def ignore(done_bytes: int, total_bytes: int) -> None:
    """Nobody watches."""


def packing_of(folder: Path, checkpoint: Checkpoint, units: list[Unit], format: Format) -> Packing:
    sources = [
        UnitSource(unit.name, own_tensors(checkpoint, unit.loaded, format)) for unit in units
    ]
    plan = PackedPlan("m", format, "float32", "f", place_units(sources))
    return Packing(folder, plan, sources, checkpoint)


def write_model(folder: Path, model) -> tuple[Checkpoint, list[Unit]]:
    write_shards(folder, {f"model-{i}.safetensors": held for i, held in enumerate(model)}, pad=3)
    (folder / "config.json").write_text("{}")
    units = [
        Unit("mlp", i, tuple(WeightSpec(name, name, tuple(t.shape)) for name, t in held.items()))
        for i, held in enumerate(model)
    ]
    return open_checkpoint(folder), units


@settings(max_examples=40)
@given(models(), st.sampled_from(FORMATS), st.integers(1, 3))
def test_every_tensor_comes_back(model, text, threads):
    format = parse_format(text)
    with tempfile.TemporaryDirectory() as name:
        checkpoint, units = write_model(Path(name), model)
        packing = packing_of(Path(name) / "packed", checkpoint, units, format)
        packing.make(partial(Encoder, threads, quantize), ignore)
        assert read_index(packing.folder).plan == packing.plan
        layouts = packed_layouts(packing.plan, units, packing.data)
        stamped = Checkpoint(packing.folder, {}, {packing.data: FileStamp.of(packing.data)})
        ring = MemoryTier("CPU", packing.plan.size_bytes).allocate("ring", packing.plan.size_bytes)
        store = WeightStore(stamped, layouts, ReadSettings(PAGE_BYTES, 2), ring)
        for number, held in enumerate(model):
            for block in store.staging_blocks(number, 0):
                block.read()
            check_views(store.acquire(number, 0), held, format)
        store.close()


def check_views(views, held, format: Format) -> None:
    assert views.keys() == held.keys()
    for name, tensor in held.items():
        view = views[name]
        if tensor.dim() == 1:
            assert same_tensor(view, tensor)
            continue
        assert isinstance(view, PackedWeight)
        assert (view.format, view.shape) == (format, tuple(tensor.shape))
        assert torch.equal(view.data, quantize(tensor, format, name).data)
        assert view.data.data_ptr() % TENSOR_ALIGNMENT == 0


@given(models())
def test_units_are_blocks_of_pages_one_behind_the_other(model):
    with tempfile.TemporaryDirectory() as name:
        checkpoint, units = write_model(Path(name), model)
        plan = packing_of(Path(name), checkpoint, units, parse_format("int4:32")).plan
    end = 0
    for unit in plan.units:
        assert unit.offset == end
        assert unit.offset % PAGE_BYTES == 0 == unit.size_bytes % PAGE_BYTES
        end += unit.size_bytes
        tensor_end = 0
        for tensor in unit.tensors:
            assert tensor_end <= tensor.offset < tensor_end + TENSOR_ALIGNMENT
            tensor_end = tensor.offset + tensor.size_bytes
        assert tensor_end <= unit.size_bytes < tensor_end + PAGE_BYTES


def test_columns_that_are_no_groups_are_refused_by_name(tmp_path):
    checkpoint, units = write_model(tmp_path, [{"odd.weight": torch.zeros(4, 96)}])
    with pytest.raises(ConfigError, match=r"Tensor odd\.weight has 96 columns, which int4:64"):
        packing_of(tmp_path, checkpoint, units, parse_format("int4:64"))


def test_the_fingerprint_is_that_of_config_and_weight_files(tmp_path):
    checkpoint, _ = write_model(tmp_path, [{"a": torch.zeros(4)}])
    before = checkpoint.fingerprint()
    assert open_checkpoint(tmp_path).fingerprint() == before
    (tmp_path / "config.json").write_text('{"a": 1}')
    assert checkpoint.fingerprint() != before
    (tmp_path / "config.json").write_text("{}")
    write_model(tmp_path, [{"a": torch.ones(4)}])
    assert open_checkpoint(tmp_path).fingerprint() != before
