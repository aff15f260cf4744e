"""The text model of checkpoints that take images, too: against transformers without any image."""

import json

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForImageTextToText

from lm_offload.arch.config import load_config
from tests.models.harness import PagedModel, load_tensors
from tests.newer_toys import GEMMA4_LAYERED, GEMMA4_MIXTURE
from tests.toy import randomize, toy_fields

TOKENS = [5, 9, 33, 70, 12] * 6
SMALL = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 32}
VISION = {**SMALL, "intermediate_size": 32, "patch_size": 16}
PIXTRAL = {"model_type": "pixtral"}
QWEN_VISION = {
    "depth": 1,
    "embed_dim": 32,
    "num_heads": 2,
    "out_hidden_size": 64,
    "deepstack_visual_indexes": [0],
    "fullatt_block_indexes": [0],
}
RECURRENT_VISION = {"depth": 1, "num_heads": 2, "out_hidden_size": 64}
MROPE = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 2, 2]}
CASES = {  # the whole, its text model, the toy of it, fields of vision
    "gemma3": ("gemma3", "gemma3_text", "gemma3_text", {}),
    "gemma4": ("gemma4", "gemma4_text", "gemma4_text", {}),
    "gemma4 mixture": ("gemma4", "gemma4_text", "gemma4_text", {}),
    "gemma4 layered": ("gemma4", "gemma4_text", "gemma4_text", {}),
    "mistral": ("mistral3", "mistral", "mistral", PIXTRAL),
    "ministral3": ("mistral3", "ministral3", "ministral3", PIXTRAL),
    "mistral4": ("mistral3", "mistral4", "mistral4", PIXTRAL),
    "llama4": ("llama4", "llama4_text", "llama4_text", {"vision_output_dim": 32}),
    "qwen2_vl": ("qwen2_vl", "qwen2_vl_text", "llama", {**QWEN_VISION, "hidden_size": 64}),
    "qwen2_5_vl": ("qwen2_5_vl", "qwen2_5_vl_text", "llama", QWEN_VISION),
    "qwen3_vl": ("qwen3_vl", "qwen3_vl_text", "qwen3", QWEN_VISION),
    "qwen3_vl_moe": ("qwen3_vl_moe", "qwen3_vl_moe_text", "qwen3_moe", QWEN_VISION),
    "qwen3_5": ("qwen3_5", "qwen3_5_text", "qwen3_5_text", RECURRENT_VISION),
    "qwen3_5_moe": ("qwen3_5_moe", "qwen3_5_moe_text", "qwen3_5_moe_text", RECURRENT_VISION),
    "kimi_k25": ("kimi_k25", "deepseek_v3", "deepseek_v3", {}),
}
OF_TEXT = {"gemma4 mixture": GEMMA4_MIXTURE, "gemma4 layered": GEMMA4_LAYERED}
PARTS = [
    *((name, name not in ("llama4", "qwen3_5_moe", "kimi_k25")) for name in CASES),
    ("mistral", False),
    ("qwen3_5", False),
]


@pytest.fixture(params=PARTS, ids=str)
def checkpoint(request, tmp_path):
    """A folder, and the logits of a prompt."""
    name, tied = request.param
    whole_type, text_type, toy_type, vision = CASES[name]
    rope = {"rope_parameters": MROPE} if "vl" in name else {}
    config = AutoConfig.for_model(
        whole_type,
        text_config={
            "model_type": text_type,
            **toy_fields(toy_type),
            **rope,
            **OF_TEXT.get(name, {}),
        },
        vision_config={**VISION, **vision},
        tie_word_embeddings=tied,
    )
    model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32).eval()
    randomize(model, 0)
    model.save_pretrained(tmp_path)
    if name == "kimi_k25":
        _name_layers(tmp_path)
    with torch.no_grad():
        return tmp_path, model(input_ids=torch.tensor([TOKENS])).logits[0]


def _name_layers(folder):
    """As published: transformers 5.23 names those of the text as the vision tower's, too."""
    old, new = "language_model.model.blocks.", "language_model.model.layers."
    tensors = {name.replace(old, new): tensor for name, tensor in load_tensors(folder).items()}
    save_file(tensors, folder / "model.safetensors")


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
