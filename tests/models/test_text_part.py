"""The text model of checkpoints that take images, too: against transformers without any image."""

import json

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForImageTextToText

from lm_offload.arch.config import load_config
from tests.models.harness import PagedModel, load_tensors
from tests.toy import randomize, toy_fields

TOKENS = [5, 9, 33, 70, 12] * 6
SMALL = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 32}
VISION = {**SMALL, "intermediate_size": 32, "patch_size": 16}
QWEN = {"depth": 1, "hidden_size": 32, "num_heads": 2, "intermediate_size": 32, "patch_size": 16}
CASES = {
    "gemma3": ("gemma3_text", VISION),
    "mistral3": ("mistral", {**VISION, "model_type": "pixtral"}),
    "qwen3_5": ("qwen3_5_text", {**QWEN, "out_hidden_size": 64}),
    "qwen3_5_moe": ("qwen3_5_moe_text", {**QWEN, "out_hidden_size": 64}),
}
PARTS = [
    *(("gemma3", True), ("mistral3", True), ("mistral3", False)),
    *(("qwen3_5", True), ("qwen3_5", False), ("qwen3_5_moe", False)),
]


@pytest.fixture(params=PARTS, ids=str)
def checkpoint(request, tmp_path):
    """A folder, and the logits of a prompt."""
    whole_type, tied = request.param
    text_type, vision = CASES[whole_type]
    config = AutoConfig.for_model(
        whole_type,
        text_config={"model_type": text_type, **toy_fields(text_type)},
        vision_config=vision,
        tie_word_embeddings=tied,
    )
    model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32).eval()
    randomize(model, 0)
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        return tmp_path, model(input_ids=torch.tensor([TOKENS])).logits[0]


def test_logits_of_text(checkpoint):
    folder, expected = checkpoint
    logits = PagedModel(folder).sweep({0: TOKENS})[0]
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)


def test_names_of_newer_files(checkpoint):
    folder, expected = checkpoint
    old, new = "language_model.model.", "model.language_model."
    tensors = {name.replace(old, new): tensor for name, tensor in load_tensors(folder).items()}
    save_file(tensors, folder / "model.safetensors")
    logits = PagedModel(folder).sweep({0: TOKENS})[0]
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)


def test_what_the_published_configs_of_gemma_3_leave_out(tmp_path):
    """They say what differs from the default, and dtype and end tokens of the whole."""
    text = {
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "model_type": "gemma3_text",
        "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
    }
    whole = {"model_type": "gemma3", "eos_token_id": [1, 106], "torch_dtype": "bfloat16"}
    (tmp_path / "config.json").write_text(json.dumps({**whole, "text_config": text}))
    config = load_config(tmp_path)
    assert (config.num_heads, config.num_kv_heads, config.head_dim) == (8, 4, 256)
    assert (config.vocab_size, config.dtype, config.tie_embeddings) == (262_208, "bfloat16", True)
    assert config.eos_token_ids == (1, 106)
    assert config.ropes[0].kind == "linear"
