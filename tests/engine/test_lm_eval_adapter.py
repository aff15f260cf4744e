"""The harness's questions, answered as transformers would answer them."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from lm_offload.demo import demo_path
from lm_offload.errors import RequestError
from tests.engine import lm_eval_stand_in
from tests.toy import load_oracle

CONTEXT = "def read_file(path):"
BF16_KV = 2e-2  # what keys and values in bf16 change in the log probability of a short text


@dataclass(frozen=True)
class Request:
    args: tuple[Any, ...]


@pytest.fixture(scope="module")
def model() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        if importlib.util.find_spec("lm_eval") is None:
            lm_eval_stand_in.install(patch)
        from lm_offload.engine.lm_eval_adapter import OffloadLM

        found = OffloadLM(str(demo_path()), cpu_memory="64MiB", threads=1, max_length=32)
        yield found
        found.llm.close()


@pytest.fixture(scope="module")
def oracle() -> PreTrainedModel:
    return load_oracle(demo_path())


def expected(oracle: PreTrainedModel, before: list[int], targets: list[int]) -> tuple[float, bool]:
    """Log probability of `targets` after `before`, and whether they are the likeliest."""
    with torch.no_grad():
        logits = oracle(torch.tensor([[*before, *targets[:-1]]])).logits[0, len(before) - 1 :]
    chosen = torch.tensor(targets)
    table = logits.log_softmax(-1)
    return float(table.gather(1, chosen[:, None]).sum()), bool((table.argmax(-1) == chosen).all())


def ask(ask_model: Any, *arguments: tuple[Any, ...]) -> Any:
    return ask_model([Request(one) for one in arguments], disable_tqdm=True)


def test_likelihoods_are_those_of_transformers(model, oracle):
    likely = model.llm.generate([CONTEXT])[0].text
    pairs = [(CONTEXT, likely), (CONTEXT, " 12"), ("", "import os"), ("x = 1\n" * 30 + "y =", " 1")]
    answers = ask(model.loglikelihood, *pairs)
    for (context, continuation), (log_prob, is_greedy) in zip(pairs, answers, strict=True):
        before = model.tok_encode(context) or [model.prefix_token_id]
        targets = model.tok_encode(context + continuation)[len(before) if context else 0 :]
        kept = before[-(model.max_length - len(targets) + 1) :]
        wanted, wanted_greedy = expected(oracle, kept, targets)
        assert log_prob == pytest.approx(wanted, abs=BF16_KV * len(targets))
        assert is_greedy is wanted_greedy
    assert [is_greedy for _, is_greedy in answers[:2]] == [True, False]


def test_long_texts_roll_through_windows(model, oracle):
    text = "".join(f"def name_{n}(self):\n    return {n}\n" for n in range(5))
    tokens = model.tok_encode(text)
    assert 32 < len(tokens) < 64
    whole, short = ask(model.loglikelihood_rolling, (text,), (CONTEXT,))
    first, rest = tokens[:32], tokens[32:]
    wanted = expected(oracle, [model.prefix_token_id], first)[0]
    wanted += expected(oracle, tokens[-33 : 32 - len(tokens)], rest)[0]
    assert whole == pytest.approx(wanted, rel=BF16_KV)
    own = model.tok_encode(CONTEXT)
    assert short == pytest.approx(expected(oracle, [model.prefix_token_id], own)[0], rel=BF16_KV)


def test_a_text_ends_before_its_stop_string(model):
    plain, stopped = ask(
        model.generate_until,
        (CONTEXT, {"max_gen_toks": 12, "do_sample": False, "temperature": 0.7}),
        (CONTEXT, {"max_gen_toks": 12, "until": "isinstance", "temperature": 0}),
    )
    assert plain.count("isinstance") == 1
    assert stopped == plain[: plain.index("isinstance")]


def test_special_tokens_stop_as_tokens(model):
    params = model._sampling_params({"until": ["\n\n", "<|endoftext|>", ""]})
    assert params.stop == ("\n\n",)
    assert params.stop_token_ids == (model.eot_token_id,)
    assert params.max_tokens == 256


def test_what_generation_does_not_know_is_refused(model):
    with pytest.raises(RequestError, match="asks for num_beams in generation"):
        ask(model.generate_until, (CONTEXT, {"num_beams": 4}))


def test_a_continuation_longer_than_the_context_is_refused(model):
    with pytest.raises(RequestError, match="the model takes 32"):
        ask(model.loglikelihood, (CONTEXT, " a = 1" * 40))


def test_the_prefix_is_not_doubled(model):
    prefix = model.tokenizer.decode(model.prefix_token_id)
    assert model.tok_encode(prefix + "x")[1:] == model.tok_encode("x", add_special_tokens=False)
