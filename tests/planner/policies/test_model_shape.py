"""Shapes of well-known models against their published sizes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lm_offload.arch.shipped import find_config, shipped_models
from lm_offload.arch.weights import build_units
from lm_offload.errors import ConfigError
from lm_offload.planner.costs.sized_model import sizes_of_config
from lm_offload.planner.policies.model_shape import ModelShape, model_shape
from lm_offload.quant.format import parse_format
from tests.planner.scenes import FP16, INT4, shape_of


def elements(model: ModelShape) -> int:
    layers = sum(
        part.elements + part.vector_elements
        for unit in ("attention", "mlp")
        for part in model.parts(unit)
    )
    head = model.head.elements
    return model.num_layers * layers + head + model.embed_elements


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("opt-6.7b", 6.66e9),
        ("opt-30b", 30.0e9),
        ("opt-175b", 174.6e9),
        ("llama-2-7b", 6.74e9),
        ("llama-2-70b", 68.98e9),
        ("mixtral-8x7b", 46.7e9),
    ],
)
def test_parameters_of_known_models(name, parameters):
    assert elements(model_shape(find_config(name))) == pytest.approx(parameters, rel=2e-3)


def test_a_layer_of_opt_is_flexgens_formula():
    """W = 8 h1^2 + 4 h1 h2 bytes, a third of it attention."""
    model = model_shape(find_config("opt-30b"))
    hidden, inner = model.hidden_size, model.inner_size
    attention, mlp = (model.unit_bytes(unit, FP16) for unit in ("attention", "mlp"))
    assert attention == pytest.approx(8 * hidden**2, rel=1e-3)
    assert mlp == pytest.approx(4 * hidden * inner, rel=1e-3)


def test_units_alternate_and_end_with_the_head():
    model = shape_of(num_hidden_layers=2)
    assert model.units == ("attention", "mlp", "attention", "mlp", "head")


def test_packed_matrices_keep_their_vectors_as_they_are():
    model = shape_of()
    values = model.head.elements
    assert model.unit_bytes("head", INT4) == values * 0.5625
    assert model.unit_bytes("mlp", FP16) - 2 * 256 == 2 * 3 * 256 * 512


def test_a_tied_head_counts_once():
    tied, own = shape_of(tie_word_embeddings=True), shape_of()
    assert own.embed_elements == 1024 * 256
    assert tied.embed_elements == 0


@pytest.mark.parametrize("name", ["gpt-oss-20b", "gpt-oss-120b"])
def test_experts_of_gpt_oss_are_in_mxfp4_and_all_else_is_not(name):
    """Byte for byte what the planner of the engine lays out, but for padding."""
    config = find_config(name)
    model, mxfp4 = model_shape(config), parse_format("mxfp4")
    assert model.own_format == mxfp4
    sizes = sizes_of_config(config, build_units(config, 1 << 62), mxfp4)
    wanted = sum(sized.size_bytes for sized in sizes.with_experts)
    assert model.total_bytes(mxfp4) == pytest.approx(wanted, rel=1e-3)
    assert model.total_bytes(model.float_format) > 3 * wanted
    for unit in ("attention", "head"):
        assert model.unit_bytes(unit, mxfp4) == model.unit_bytes(unit, model.float_format)


def test_gpt_oss_with_experts_in_floats():
    config = replace(find_config("gpt-oss-20b"), expert_format=None)
    assert str(model_shape(config).own_format) == "bf16"


@pytest.mark.parametrize("name", shipped_models())
def test_every_model_that_ships_has_a_shape(name):
    config = find_config(name)
    if config.recurrent:
        with pytest.raises(ConfigError, match="whose recurrent layers no published policy knows"):
            model_shape(config)
        return
    model = model_shape(config)
    assert model.heads.group * model.kv_size == model.query_size
    assert len(model.windows) == model.num_layers
