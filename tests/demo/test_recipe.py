"""The recipe of the demo model: its forward pass, optimizer, data split and yardstick."""

import math

import numpy as np
import pytest
import torch
from recipes.train_demo.bigram import best_bigram_nats, count_bigrams
from recipes.train_demo.checkpoint import export
from recipes.train_demo.corpus import is_held_out, read_corpus, write_held_out
from recipes.train_demo.model import DemoConfig, forward, init_parameters
from recipes.train_demo.optimizer import orthogonalize
from recipes.train_demo.trainer import learning_rate_scale
from recipes.train_demo.windows import WINDOW, window_stream
from tokenizers import Tokenizer, models

TOY = DemoConfig(vocab_size=97, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
                 num_key_value_heads=2, head_dim=16, intermediate_size=96)  # fmt: skip


def test_exported_weights_give_transformers_the_same_logits(tmp_path):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    parameters = {
        name: (weight + 0.1 * torch.randn_like(weight)).bfloat16().float()
        for name, weight in init_parameters(TOY).items()
    }
    tokenizer = Tokenizer(models.BPE(vocab={"<|endoftext|>": 0}, merges=[]))
    export(parameters, TOY, tokenizer, tmp_path)
    oracle = transformers.LlamaForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    tokens = torch.randint(0, TOY.vocab_size, (2, 40))
    with torch.inference_mode():
        expected = oracle(tokens).logits
    torch.testing.assert_close(forward(parameters, tokens, TOY), expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("shape", [(3, 32, 64), (2, 64, 32)])
def test_orthogonalize_brings_singular_values_near_one(shape):
    torch.manual_seed(0)
    singular = torch.linalg.svdvals(orthogonalize(torch.randn(shape)))
    assert singular.min() > 0.5
    assert singular.max() < 1.3


def test_learning_rate_rises_then_ends_at_zero():
    assert learning_rate_scale(0.0, step=0) < 0.1
    assert learning_rate_scale(0.2, step=500) == 1.0
    assert learning_rate_scale(1.0, step=900) == 0.0


def test_held_out_modules_are_never_trained_on(tmp_path):
    names = [f"package/module_{index}.py" for index in range(400)]
    for name in [*names, "test/test_it.py", "site-packages/other.py"]:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"# {name}\n")
    corpus = read_corpus(tmp_path)
    assert set(corpus.held_out) == {f"# {name}\n" for name in names if is_held_out(name)}
    assert 4 <= len(corpus.held_out) <= 24
    assert set(corpus.modules).isdisjoint(corpus.held_out)
    assert len(corpus.modules) + len(corpus.held_out) == len(names)
    assert corpus.tests == ["# test/test_it.py\n"]


def test_an_existing_held_out_file_stays(tmp_path):
    (tmp_path / "heldout.txt").write_text("the yardstick")
    write_held_out(read_corpus(tmp_path), tmp_path / "heldout.txt")
    assert (tmp_path / "heldout.txt").read_text() == "the yardstick"


def test_windows_of_an_epoch_do_not_overlap():
    stream = np.arange(10 * WINDOW, dtype=np.uint16)
    windows = window_stream(stream, stream, seed=0)
    starts = [int(next(windows)[0]) for _ in range(9)]
    assert len({start // WINDOW for start in starts}) >= 7
    assert all(len(next(windows)) == WINDOW + 1 for _ in range(30))


def test_bigram_knows_an_alternating_stream():
    stream = np.tile(np.array([3, 5], dtype=np.uint16), 500)
    bigram = count_bigrams(stream, vocab_size=8)
    nats, weight = best_bigram_nats(bigram, stream)
    assert weight == pytest.approx(0.99)
    assert nats < 0.02
    assert best_bigram_nats(bigram, np.array([5, 5, 3, 3]))[0] > math.log(2)
