"""The shipped demo model: its files, its shape, and that it has learned Python."""

import ast
import json
import math

import pytest
import torch
from tokenizers import Tokenizer

from lm_offload.demo import demo_path

MAX_FILES_BYTES = 24 * 10**6


@pytest.fixture(scope="module")
def card():
    return json.loads((demo_path() / "card.json").read_text())


@pytest.fixture(scope="module")
def model():
    transformers = pytest.importorskip("transformers")
    return transformers.LlamaForCausalLM.from_pretrained(
        demo_path(), dtype=torch.float32, local_files_only=True
    )


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.from_file(str(demo_path() / "tokenizer.json"))


def test_files_are_complete_and_small():
    names = {path.name for path in demo_path().iterdir()}
    assert names >= {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "heldout.txt",
        "card.json",
        "README.md",
    }
    total = sum(path.stat().st_size for path in demo_path().iterdir() if path.is_file())
    assert total <= MAX_FILES_BYTES


def test_shape_is_a_small_llama_with_grouped_queries(model):
    config = model.config
    assert 8e6 <= model.num_parameters() <= 12e6
    assert config.num_key_value_heads < config.num_attention_heads
    assert config.tie_word_embeddings


def test_weights_are_stored_in_bf16():
    with (demo_path() / "model.safetensors").open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    dtypes = {entry["dtype"] for name, entry in header.items() if name != "__metadata__"}
    assert dtypes == {"BF16"}


def test_auto_tokenizer_agrees_with_the_plain_one(tokenizer):
    transformers = pytest.importorskip("transformers")
    auto = transformers.AutoTokenizer.from_pretrained(demo_path(), local_files_only=True)
    text = "def f(x):\n    return 'ä€', x\n\n\t#  two  spaces\n"
    assert auto(text)["input_ids"] == tokenizer.encode(text).ids
    assert auto.decode(tokenizer.encode(text).ids) == text
    assert auto.eos_token == "<|endoftext|>"
    assert auto.eos_token_id == 0


def test_held_out_perplexity_is_far_below_the_bigrams(model, tokenizer, card):
    text = (demo_path() / "heldout.txt").read_text(encoding="utf-8")
    ids = torch.tensor(tokenizer.encode(text[:16_000]).ids)[None, :2048]
    with torch.inference_mode():
        loss = model(ids, labels=ids).loss.item()
    assert card["model_perplexity"] < 0.5 * card["bigram_perplexity"]
    assert math.exp(loss) < 0.5 * card["bigram_perplexity"]


@pytest.mark.parametrize(
    "prompt", ["def read_file(path):", "class Stack:\n    def __init__(self, items):"]
)
def test_greedy_continuation_is_an_indented_python_body(model, tokenizer, prompt):
    ids = torch.tensor([tokenizer.encode(prompt).ids])
    output = model.generate(ids, max_new_tokens=100, do_sample=False, pad_token_id=0)
    written = tokenizer.decode(output[0, ids.shape[1] :].tolist())
    assert written.startswith("\n    ")
    assert parsable_lines(prompt + written) >= 3


def parsable_lines(source: str) -> int:
    """Length of the longest prefix, in whole lines, that is a Python module."""
    lines = source.splitlines()
    return max(count for count in range(len(lines) + 1) if parses("\n".join(lines[:count])))


def parses(source: str) -> bool:
    try:
        ast.parse(source)
    except SyntaxError:
        return False
    return True
