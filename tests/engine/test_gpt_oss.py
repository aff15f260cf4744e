"""gpt-oss as it was published: experts in MXFP4, the tokens of transformers with what they are."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from lm_offload.engine.opening import open_model
from lm_offload.engine.quantized_export import quantize_model
from lm_offload.errors import CheckpointError, ConfigError
from lm_offload.quant.format import parse_format
from tests.engine.harness import PLENTY, generate, open_llm, prompts_of, smallest_budget
from tests.engine.test_foreign import CLOSE, check_tokens
from tests.foreign.mxfp4 import write_mxfp4
from tests.quantized import toy_shapes

PROMPTS = prompts_of(5, 1, 34, 17)
ODD = {"hidden_size": 96, "intermediate_size": 160}  # no multiples of 64, as 2880 is none of 128


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LM_OFFLOAD_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


SHAPES, NAMES = [toy_shapes("gpt_oss"), ODD], ["64", "32"]


@pytest.fixture(scope="module", params=SHAPES, ids=NAMES)
def folder(toy, request, tmp_path_factory):
    source = toy("gpt_oss", **request.param)
    return write_mxfp4(source, tmp_path_factory.mktemp("mxfp4") / "toy")


@pytest.mark.parametrize("shape", SHAPES, ids=NAMES)
def test_tokens_are_those_of_transformers(toy, shape, tmp_path, monkeypatch):
    """All else in float32: where inputs are rounded to bf16, routers of a toy choose others."""
    made = write_mxfp4(toy("gpt_oss", **shape), tmp_path / "toy", "float32")
    check_tokens(made, made / "oracle", monkeypatch, CLOSE)


def test_budgets_and_batches_do_not_change_tokens(folder):
    wanted = [generate(folder, PLENTY, [prompt])[0] for prompt in PROMPTS]
    smallest = smallest_budget(folder, PROMPTS, 8)
    for budget in (smallest, int(1.4 * smallest), PLENTY):
        assert generate(folder, budget, PROMPTS) == wanted
    assert generate(folder, smallest, PROMPTS, overlap=False) == wanted


def test_experts_take_four_and_a_quarter_bits_and_all_else_stays(folder):
    with open_llm(folder, exact=True) as llm:
        files = llm.files
        assert str(files.weight_format) == "mxfp4"
        assert files.config.dtype == "bfloat16"
        for unit, layout in zip(files.units, files.layouts, strict=True):
            for spec in unit.loaded:
                place = layout.places[spec.role]
                assert (place.format is not None) == (unit.kind == "expert" and spec.is_matrix)
        matrix = next(spec for spec in files.units[3].loaded if spec.is_matrix)
        rows, columns = matrix.shape
        assert parse_format("mxfp4").matrix_bytes(rows, columns) == rows * columns * 17 // 32


def test_a_folder_of_its_own_is_the_same_model(folder, tmp_path):
    made = quantize_model(folder, None, tmp_path / "made", 1, lambda *_: None)
    assert made.format == "mxfp4"
    assert "quantization_config" not in json.loads((tmp_path / "made/config.json").read_text())
    assert generate(tmp_path / "made", PLENTY, PROMPTS) == generate(folder, PLENTY, PROMPTS)


def test_another_format_is_refused(folder):
    with pytest.raises(ConfigError, match="is quantized already and read as mxfp4"):
        open_model(folder, "int4:32")


def test_a_scale_that_is_no_number_names_the_tensor(folder, tmp_path):
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.0.mlp.experts.down_proj_scales"][2, 3, 1] = 255
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"experts\.2\.down_proj\.weight holds NaN"):
        generate(tmp_path, PLENTY, PROMPTS)


def test_mixtures_in_floats_may_have_their_experts_quantized_to_it(toy):
    for model_type in ("gpt_oss", "mixtral"):
        source = toy(model_type, dtype=torch.bfloat16, **toy_shapes(model_type))
        with open_llm(source, weight_format="mxfp4") as llm:
            formats = {
                unit.kind: {str(place.format) for place in layout.places.values() if place.format}
                for unit, layout in zip(llm.files.units, llm.files.layouts, strict=True)
            }
        assert formats["expert"] == {"mxfp4"}
        assert formats["attention"] == formats["head"] == set()
        small = smallest_budget(source, PROMPTS, 8, weight_format="mxfp4")
        wanted = generate(source, PLENTY, PROMPTS, weight_format="mxfp4")
        assert generate(source, small, PROMPTS, weight_format="mxfp4") == wanted


def test_models_without_experts_have_nothing_to_be_in_it(toy):
    with pytest.raises(ConfigError, match="mxfp4 was given for a model without experts"):
        open_model(toy("llama"), "mxfp4")
