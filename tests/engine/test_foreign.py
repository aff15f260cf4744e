"""Checkpoints that others quantized: the tokens of transformers with the weights they stand for."""

from __future__ import annotations

import json
import math
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from lm_offload.engine.opening import open_model
from lm_offload.engine.quantized_export import quantize_model
from lm_offload.errors import CheckpointError, ConfigError
from lm_offload.foreign.gguf_experts import expert_entries
from lm_offload.quant.format import parse_format
from lm_offload.quant.quantize import dequantize, quantize
from lm_offload.storage.safetensors_header import TensorEntry
from tests.engine.harness import PLENTY, generate, open_llm, prompts_of, smallest_budget
from tests.engine.test_quantized import logits_of
from tests.foreign.cases import AGAIN, CASES
from tests.foreign.folders import write_folder
from tests.foreign.gguf_files import write_gguf
from tests.quantized import toy_shapes
from tests.toy import UNSTRETCHED, WINDOW, load_oracle

PROMPT = prompts_of(34)[0]
PROMPTS = [*prompts_of(5, 1), PROMPT]
WIDE = {"hidden_size": 256, "intermediate_size": 256, "head_dim": 64, "num_hidden_layers": 2}
CLOSE = 0.02  # of the largest logit: activations of 16 bits, a KV cache in fp16


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LM_OFFLOAD_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def check_tokens(path, oracle_folder, monkeypatch, tolerance: float) -> None:
    """Greedy tokens are those of the oracle, logits as near as `tolerance` of the largest."""
    output, rows = logits_of(path, PLENTY, PROMPT, monkeypatch)
    oracle = load_oracle(oracle_folder)
    with torch.no_grad():
        wanted = oracle(torch.tensor([PROMPT + output[:-1]])).logits[0][len(PROMPT) - 1 :]
    assert output == wanted.argmax(-1).tolist()
    assert float((rows - wanted).abs().max() / wanted.abs().max()) < tolerance


def gguf_toy(toy, folder, model_type="llama", dtype="Q8_0", **options):
    shapes = WIDE if dtype.endswith("_K") else toy_shapes("llama")
    window = {"use_sliding_window": False} if model_type == "qwen2" else {}
    return write_gguf(toy(model_type, **shapes, **window), folder / "gguf", dtype, **options)


def rounded(oracle_folder, weight_format: str, last: str):
    """The same oracle with matrices whose names end in `last` rounded to a format of ours."""
    file = oracle_folder / "model.safetensors"
    tensors = load_file(file)
    for name, tensor in tensors.items():
        if name.endswith(last) and tensor.dim() == 2 and "embed" not in name:
            tensors[name] = dequantize(quantize(tensor, parse_format(weight_format), name))
    save_file(tensors, file, metadata={"format": "pt"})
    return oracle_folder


@pytest.mark.parametrize("case", CASES)
def test_folders(toy, tmp_path, monkeypatch, case):
    section, packer, format, loss = CASES[case]
    source = toy("llama", **toy_shapes("llama"))
    folder = write_folder(source, tmp_path / "model", section, packer)
    oracle = folder / "oracle"
    if loss == AGAIN:
        rounded(oracle, format, "proj.weight")
    check_tokens(folder, oracle, monkeypatch, CLOSE)


MIXTURES = ("mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "gpt_oss")


def gguf_mixture(toy, folder, model_type, dtype):
    """With the scales of a GGUF file, which are those that Qwen's own checkpoints have."""
    shapes = toy_shapes(model_type) | {"norm_topk_prob": model_type == "qwen3_moe"}
    return write_gguf(toy(model_type, **shapes), folder / "gguf", dtype)


@pytest.mark.parametrize("model_type", MIXTURES)
@pytest.mark.parametrize("dtype", ["F32", "F16", "Q8_0"])
def test_gguf_of_mixtures(toy, tmp_path, monkeypatch, model_type, dtype):
    file = gguf_mixture(toy, tmp_path, model_type, dtype)
    check_tokens(file, file.parent / "oracle", monkeypatch, 1e-4 if dtype == "F32" else CLOSE)


@pytest.mark.parametrize("model_type", [it for it in MIXTURES if it != "gpt_oss"])
def test_folders_of_mixtures(toy, tmp_path, monkeypatch, model_type):
    section, packer, *_ = CASES["gptq of whole rows"]
    source = toy(model_type, **toy_shapes(model_type))
    folder = write_folder(source, tmp_path / "model", section, packer)
    check_tokens(folder, folder / "oracle", monkeypatch, CLOSE)


@pytest.mark.parametrize(
    ("model_type", "case", "options"),
    [
        ("deepseek_v3", "fp8 blocks", UNSTRETCHED),  # scores of YaRN lose more in fp16
        ("glm4_moe", "compressed fp8 by channel", {}),
        ("qwen3_5_text", "fp8 blocks", {}),
        ("granitemoehybrid", "fp8 blocks", {"num_local_experts": 0}),
    ],
)
def test_float8_folders_of_other_types(toy, tmp_path, monkeypatch, model_type, case, options):
    """Matrices in FP8; routers, their biases and recurrent layers' vectors in floats."""
    section, packer, *_ = CASES[case]
    source = toy(model_type, **toy_shapes(model_type), **options)
    folder = write_folder(source, tmp_path / "model", section, packer)
    check_tokens(folder, folder / "oracle", monkeypatch, CLOSE)


def test_gguf_with_experts_by_themselves(toy, tmp_path):
    """As the first files of Mixtral had them: what is stacked elsewhere, cut."""
    entry = TensorEntry("blk.1.ffn_down_exps.weight", tmp_path, "Q8_0", (4, 64, 32), 100, 4 * 2176)
    cut = [*expert_entries(entry, "mixtral")]
    alone = TensorEntry("blk.1.ffn_down.2.weight", tmp_path, "Q8_0", (64, 32), 100 + 2 * 2176, 2176)
    assert [*expert_entries(alone, "mixtral")] == [cut[2]]
    assert cut[2].name == "model.layers.1.block_sparse_moe.experts.2.w2.weight"
    assert not [*expert_entries(alone, "llama")]


def test_experts_that_are_no_stack(tmp_path):
    entry = TensorEntry("blk.1.ffn_up_exps.weight", tmp_path, "F16", (64, 32), 0, 4096)
    with pytest.raises(CheckpointError, match=r"has shape \[64, 32\], experts are a stack"):
        [*expert_entries(entry, "qwen3_moe")]


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q4_K"])
def test_gguf(toy, tmp_path, monkeypatch, dtype):
    file = gguf_toy(toy, tmp_path, dtype=dtype)
    tolerance = {"F32": 1e-4, "BF16": 0.04}.get(dtype, CLOSE)
    check_tokens(file, file.parent / "oracle", monkeypatch, tolerance)


@pytest.mark.parametrize("dtype", ["Q5_K", "Q6_K"])
def test_gguf_that_is_quantized_again(toy, tmp_path, monkeypatch, dtype):
    file = gguf_toy(toy, tmp_path, dtype=dtype)
    oracle = rounded(file.parent / "oracle", "int8:32", ".weight")
    check_tokens(file, oracle, monkeypatch, CLOSE)


@pytest.mark.parametrize(
    ("model_type", "options"),
    [
        ("qwen2", {}),
        ("qwen3", {}),
        ("mistral", {"llama.attention.sliding_window": WINDOW}),
        ("llama", {"tensors_of_part": 7}),
    ],
)
def test_gguf_of_other_models_and_in_parts(toy, tmp_path, monkeypatch, model_type, options):
    file = gguf_toy(toy, tmp_path, model_type, **options)
    assert file.name == ("toy-00001-of-00005.gguf" if "tensors_of_part" in options else "toy.gguf")
    check_tokens(file, file.parent / "oracle", monkeypatch, CLOSE)


def llama3_factors(rope: dict[str, float], head_dim: int) -> list[float]:
    """What llama.cpp's converter computes from Llama 3.1's rope."""
    low = rope["original_max_position_embeddings"] / rope["low_freq_factor"]
    high = rope["original_max_position_embeddings"] / rope["high_freq_factor"]
    factors = []
    for i in range(0, head_dim, 2):
        wavelength = 2 * math.pi * rope["rope_theta"] ** (i / head_dim)
        share = (low / wavelength - 1) / (low / high - 1)
        smooth = 1 / ((1 - share) / rope["factor"] + share)
        factors.append(
            min(max(smooth, 1.0), rope["factor"])
            if 0 <= share <= 1
            else 1.0
            if share > 1
            else rope["factor"]
        )
    return factors


def test_gguf_with_factors_of_its_rope(toy, tmp_path, monkeypatch):
    rope = {
        "rope_type": "llama3",
        "rope_theta": 1000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    source = toy("llama", **toy_shapes("llama"), rope_parameters=rope)
    factors = llama3_factors(rope, 16)
    assert len(set(factors)) > 2
    file = write_gguf(source, tmp_path / "gguf", "F32", vectors={"rope_freqs.weight": factors})
    check_tokens(file, file.parent / "oracle", monkeypatch, 1e-4)


@pytest.mark.parametrize("kind", ["linear", "yarn"])
def test_gguf_with_a_stretched_rope(toy, tmp_path, monkeypatch, kind):
    original = {"original_max_position_embeddings": 64}
    rope = {"rope_type": kind, "rope_theta": 1000.0, "factor": 4.0}
    source = toy(
        "llama", **toy_shapes("llama"), rope_parameters=rope | (original if kind == "yarn" else {})
    )
    fields = {"llama.rope.scaling.type": kind, "llama.rope.scaling.factor": 4.0}
    fields |= {"llama.rope.scaling.original_context_length": 64} if kind == "yarn" else {}
    file = write_gguf(source, tmp_path / "gguf", "F32", **fields)
    check_tokens(file, file.parent / "oracle", monkeypatch, 1e-4)


@pytest.mark.parametrize("dtype", ["F16", "Q8_0"])
def test_a_tied_head_and_every_budget(toy, tmp_path, monkeypatch, dtype):
    source = toy("llama", **toy_shapes("llama"), tie_word_embeddings=True)
    file = write_gguf(source, tmp_path / "gguf", dtype)
    check_tokens(file, file.parent / "oracle", monkeypatch, CLOSE)
    wanted = generate(file, PLENTY, PROMPTS)
    smallest = smallest_budget(file, PROMPTS, 8)
    assert generate(file, smallest, PROMPTS) == wanted
    assert generate(file, int(smallest * 1.4), PROMPTS) == wanted


def folder_toy(toy, folder, case="gptq"):
    section, packer, *_ = CASES[case]
    return write_folder(toy("llama", **toy_shapes("llama")), folder / "model", section, packer)


@pytest.mark.parametrize("kind", ["gguf", "float gguf", "gptq"])
def test_a_folder_of_its_own_needs_no_source(toy, tmp_path, kind):
    if kind == "gptq":
        source = folder_toy(toy, tmp_path)
    else:
        source = gguf_toy(toy, tmp_path, dtype="F16" if kind == "float gguf" else "Q4_0")
    wanted = generate(source, PLENTY, PROMPTS)
    made = quantize_model(source, None, tmp_path / "made", 1, lambda done, total: None)
    assert made.conversion == open_model(source).conversion.summary
    # rows are padded to 8; GPTQ leaves the head in fp16
    size_bytes = {"gguf": 0.5625, "float gguf": 2, "gptq": 0.664}[kind]
    assert made.bytes_per_weight == pytest.approx(size_bytes, rel=0.01)
    shutil.rmtree(source if source.is_dir() else source.parent)
    assert generate(tmp_path / "made", PLENTY, PROMPTS) == wanted
    assert "quantization_config" not in json.loads((tmp_path / "made/config.json").read_text())


def test_formats_that_may_be_asked_for(toy, tmp_path):
    quantized, floats = gguf_toy(toy, tmp_path / "a"), gguf_toy(toy, tmp_path / "b", dtype="F16")
    assert str(open_model(quantized, "int8:32").stored_format) == "int8:32"
    assert str(open_model(floats).stored_format) == "fp16"
    assert str(open_model(floats, "int4:64").stored_format) == "int4:64"
    with pytest.raises(
        ConfigError, match="int4:64 was given, toy is quantized already and read as"
    ):
        open_model(quantized, "int4:64")
    with open_llm(floats, weight_format="auto") as llm:
        assert [str(choice.stored_format) for choice in llm.choices] == [
            "fp16",
            "int8:64",
            "int4:64",
        ]


def test_exactness_is_that_of_the_conversion(toy, tmp_path):
    assert open_model(folder_toy(toy, tmp_path), exact=True).conversion.is_exact
    with pytest.raises(
        ConfigError, match=r"cannot be read exactly: 21 x AWQ int4 to int4:32 \(codes"
    ):
        open_model(folder_toy(toy, tmp_path / "awq", "awq"), exact=True)


def test_what_is_lost_is_said_once(toy, tmp_path, caplog):
    with open_llm(folder_toy(toy, tmp_path, "awq")) as llm:
        llm.prepare()
        llm.prepare()
    assert caplog.text.count("Reading model converts it: 21 x AWQ int4 to int4:32 (codes") == 1
    caplog.clear()
    with open_llm(folder_toy(toy, tmp_path / "exact")) as llm:
        llm.prepare()
    assert caplog.text == ""
    with open_llm(gguf_toy(toy, tmp_path, dtype="F16"), weight_format="int4:64") as llm:
        llm.prepare()
    assert caplog.text == ""


def test_errors_of_a_config_name_its_file(toy, tmp_path):
    """Also of a folder that is opened as one that others quantized, for its stacks of experts."""
    folder = shutil.copytree(toy("llama4_text"), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hidden_size": -1}))
    with pytest.raises(CheckpointError, match=r"^config.json has hidden_size=-1, but an integer"):
        open_model(folder)
