"""Quantized weights: the dequantized model's logits, whatever the budget and wherever they lie."""

from __future__ import annotations

import shutil

import pytest
import torch

from lm_offload import Workload
from lm_offload.errors import CheckpointError, ConfigError
from lm_offload.kernels.torch_kernels import TorchKernels
from tests.engine.harness import (
    GREEDY,
    PLENTY,
    LogitsRecorder,
    generate,
    open_llm,
    prompts_of,
    smallest_budget,
    tokens_of,
)
from tests.engine.test_failures import poison
from tests.kernels.implementations import all_kernels, rounds_inputs
from tests.quantized import toy_shapes, write_dequantized
from tests.toy import MODEL_TYPES, load_oracle

PROMPTS = prompts_of(5, 1, 34, 17)
FORMATS = ("int8:64", "int4:32", "fp8:32")
# Activations of 16 bits are off by 1e-4 in each product, more after the layers; logits are about 3.
CLOSE = {"atol": 2e-2, "rtol": 0.0}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """One cache for the module, so that a model is quantized once."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LM_OFFLOAD_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def oracle(toy, tmp_path_factory):
    """Logits of transformers with dequantized weights, at each token of `output`."""
    made = {}

    def logits_after(folder, weight_format, prompt, output):
        key = folder, weight_format
        if key not in made:
            target = tmp_path_factory.mktemp("dequantized") / "model"
            made[key] = load_oracle(write_dequantized(folder, target, weight_format))
        with torch.no_grad():
            logits = made[key](torch.tensor([prompt + output[:-1]])).logits[0]
        return logits[len(prompt) - 1 :]

    return logits_after


def quantized_toy(toy, model_type, **arguments):
    return toy(model_type, **toy_shapes(model_type), **arguments)


def logits_of(folder, budget, prompt, monkeypatch, **options):
    """The generated tokens of one prompt and the logits that they were drawn from."""
    with monkeypatch.context() as patch:
        recorder = LogitsRecorder(patch)
        (output,) = generate(folder, budget, [prompt], **options)
    return output, torch.stack(recorder.rows)


def with_whole_inputs(threads):
    """The fastest kernels that round no inputs to bf16: that is more than CLOSE allows."""
    return next(each for each in all_kernels(threads) if not rounds_inputs(each))


def round_inputs(model):
    """Lets the linear layers of an oracle round their inputs to bf16, in place."""
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_pre_hook(lambda _, inputs: inputs[0].bfloat16().float())
    return model


@pytest.mark.parametrize("weight_format", FORMATS)
@pytest.mark.parametrize("model_type", [*MODEL_TYPES, "qwen3_next", "qwen3_5_text", "apertus"])
def test_logits_are_those_of_the_dequantized_model(
    toy, cache, oracle, monkeypatch, model_type, weight_format
):
    monkeypatch.setattr("lm_offload.engine.llm.resolve_kernels", with_whole_inputs)
    folder = quantized_toy(toy, model_type)
    output, rows = logits_of(folder, PLENTY, PROMPTS[2], monkeypatch, weight_format=weight_format)
    wanted = oracle(folder, weight_format, PROMPTS[2], output)
    torch.testing.assert_close(rows, wanted, **CLOSE)


def test_logits_of_fp8_are_those_of_the_kernels_in_use(toy, cache, monkeypatch, tmp_path):
    """Some round the inputs of products to bf16: 0.04 off in the mean where the oracle does not."""
    folder = quantized_toy(toy, "llama")
    output, rows = logits_of(folder, PLENTY, PROMPTS[2], monkeypatch, weight_format="fp8:32")
    model = load_oracle(write_dequantized(folder, tmp_path / "model", "fp8:32"))
    if rounds_inputs(all_kernels()[0]):
        round_inputs(model)
    with torch.no_grad():
        wanted = model(torch.tensor([PROMPTS[2] + output[:-1]])).logits[0]
    assert (rows - wanted[len(PROMPTS[2]) - 1 :]).square().mean().sqrt() < 5e-3


def test_plain_torch_computes_the_same_in_float32(toy, cache, oracle, monkeypatch):
    monkeypatch.setattr("lm_offload.engine.llm.resolve_kernels", TorchKernels)
    folder = quantized_toy(toy, "llama")
    output, rows = logits_of(folder, PLENTY, PROMPTS[2], monkeypatch, weight_format="int4:64")
    wanted = oracle(folder, "int4:64", PROMPTS[2], output)
    torch.testing.assert_close(rows, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("arguments", [{"tie_word_embeddings": True}, {"vocab_size": 515}])
def test_a_tied_head_and_a_head_of_several_parts(toy, cache, oracle, monkeypatch, arguments):
    folder = quantized_toy(toy, "llama", **arguments)
    smallest = smallest_budget(folder, PROMPTS[2:3], 8, weight_format="int4:32")
    for budget in (smallest, PLENTY):
        options = {"weight_format": "int4:32"}
        output, rows = logits_of(folder, budget, PROMPTS[2], monkeypatch, **options)
        wanted = oracle(folder, "int4:32", PROMPTS[2], output)
        torch.testing.assert_close(rows, wanted, **CLOSE)


def test_opt_with_projections_around_a_narrow_embedding(toy, cache, oracle, monkeypatch):
    folder = quantized_toy(toy, "opt", word_embed_proj_dim=32)
    output, rows = logits_of(folder, PLENTY, PROMPTS[2], monkeypatch, weight_format="int8:32")
    wanted = oracle(folder, "int8:32", PROMPTS[2], output)
    torch.testing.assert_close(rows, wanted, **CLOSE)


@pytest.mark.parametrize("model_type", ["gemma3_text", "opt"])
def test_tokens_and_bits_are_the_same_for_every_budget(toy, cache, monkeypatch, model_type):
    folder, options = quantized_toy(toy, model_type), {"weight_format": "int4:64"}
    smallest = smallest_budget(folder, PROMPTS, GREEDY.max_tokens, **options)
    wanted = generate(folder, PLENTY, PROMPTS, **options)
    assert generate(folder, int(smallest * 1.4), PROMPTS, **options) == wanted
    resident = logits_of(folder, PLENTY, PROMPTS[2], monkeypatch, **options)
    streamed = logits_of(folder, smallest, PROMPTS[2], monkeypatch, overlap=False, **options)
    assert resident[0] == streamed[0] == wanted[2]
    assert torch.equal(resident[1], streamed[1])


def test_a_quantized_model_needs_less_memory_and_reads_less(toy, cache):
    folder = quantized_toy(toy, "llama", dtype=torch.bfloat16)
    with open_llm(folder) as exact, open_llm(folder, weight_format="int4:64") as packed:
        assert packed.files.weight_bytes < 0.5 * exact.files.weight_bytes
        layouts = [layout for layout in packed.files.layouts if layout.size_bytes]
        assert all(len(layout.runs) == 1 for layout in layouts)
    small = smallest_budget(folder, PROMPTS, 8, weight_format="int4:64")
    assert small < smallest_budget(folder, PROMPTS, 8)


def test_planning_quantizes_nothing(toy, tmp_path, monkeypatch):
    monkeypatch.setenv("LM_OFFLOAD_CACHE", str(tmp_path))
    folder = quantized_toy(toy, "llama")
    with open_llm(folder, weight_format="int4:64") as llm:
        assert llm.plan_for(Workload((5,), (8,))).streamed == ()
        assert llm.files.largest_file.parent == folder  # what the disk's rate is measured on
    assert list(tmp_path.iterdir()) == []


def test_it_is_quantized_once(toy, tmp_path, monkeypatch):
    monkeypatch.setenv("LM_OFFLOAD_CACHE", str(tmp_path))
    folder, calls = quantized_toy(toy, "llama"), []
    with open_llm(
        folder, weight_format="int8", on_quantize=lambda *counts: calls.append(counts)
    ) as llm:
        wanted = tokens_of(llm, PROMPTS)
        assert calls[-1][0] == calls[-1][1]
        calls.clear()
        assert tokens_of(llm, PROMPTS) == wanted
        llm.prepare()
    with open_llm(folder, weight_format="int8:64", on_quantize=lambda *_: calls.append(_)) as llm:
        assert tokens_of(llm, PROMPTS) == wanted
    assert calls == []


def test_a_changed_checkpoint_is_quantized_anew(toy, tmp_path, monkeypatch):
    monkeypatch.setenv("LM_OFFLOAD_CACHE", str(tmp_path / "cache"))
    one = quantized_toy(toy, "llama")
    folder = shutil.copytree(one, tmp_path / "model")
    first = generate(folder, PLENTY, PROMPTS, weight_format="int8")
    shutil.copy(quantized_toy(toy, "llama", seed=1) / "model.safetensors", folder)
    assert generate(folder, PLENTY, PROMPTS, weight_format="int8") != first
    assert len(list((tmp_path / "cache" / "quantized").iterdir())) == 2


def test_the_own_precision_is_exact_and_quantizes_nothing(toy, tmp_path, monkeypatch):
    monkeypatch.setenv("LM_OFFLOAD_CACHE", str(tmp_path))
    folder = toy("llama", dtype=torch.bfloat16)
    wanted = generate(folder, PLENTY, PROMPTS)
    assert generate(folder, PLENTY, PROMPTS, weight_format="bf16", exact=True) == wanted
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight_format": "int5"}, "Format 'int5' is not known; allowed are"),
        ({"weight_format": "int4:48"}, "Format 'int4:48' is not known"),
        ({"weight_format": "fp16"}, "fp16 was given for a checkpoint in fp32; allowed are fp32"),
        ({"weight_format": "int4:128"}, r"layers\.0\..* has 64 columns, which int4:128 cannot"),
        ({"weight_format": "int8", "exact": True}, "int8:64, which is not exact; leave --exact"),
    ],
)
def test_formats_that_cannot_be_had(toy, cache, options, message):
    with pytest.raises(ConfigError, match=message):
        open_llm(quantized_toy(toy, "llama"), **options)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["model.layers.1.mlp.down_proj.weight", "model.norm.weight"])
def test_weights_that_are_no_numbers_are_named_and_leave_nothing(
    toy, tmp_path, monkeypatch, name, value
):
    monkeypatch.setenv("LM_OFFLOAD_CACHE", str(tmp_path / "cache"))
    folder = shutil.copytree(quantized_toy(toy, "llama"), tmp_path / "model")
    poison(folder, name, value)
    with pytest.raises(CheckpointError, match=name):
        generate(folder, PLENTY, PROMPTS, weight_format="int4:64")
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []
