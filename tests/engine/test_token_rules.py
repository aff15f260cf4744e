"""What a request forbids and favours, through the whole engine: alone, in batches, with drafts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_offload import LLM, SamplingParams
from lm_offload.errors import CheckpointError, RequestError
from tests.engine.harness import open_llm, prompts_of, tokens_of
from tests.engine.test_preemption import all_blocks_are_back, seen, tight
from tests.engine.tokenizer_file import write_tokenizer
from tests.toy import MAX_POSITIONS, VOCAB_SIZE, load_oracle, make_toy_checkpoint

END = 2  # of toy checkpoints
PROMPTS = prompts_of(20, 27, 5, 34)
RULES = [
    {"min_tokens": 9, "stop_token_ids": [*range(3, 60)]},
    {
        "logit_bias": {**dict.fromkeys(range(36, 40), 1.5), 71: -5.0, END: 1.0},  # A to D
        "bad_words": ["A", "BC", "CD", "DBD"],
    },
    {"allowed_token_ids": [5, 9, 33, 70, 71, 72], "bad_words": ["D"], "repetition_penalty": 1.3},
    {},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = make_toy_checkpoint(tmp_path_factory.mktemp("rules") / "llama", "llama")
    return write_tokenizer(made)


@pytest.fixture(scope="module")
def llm(folder):
    with open_llm(folder, speculation="off") as llm:
        yield llm


def params_of(temperature: float, **values) -> list[SamplingParams]:
    """One for each of the prompts, each with rules of its own."""
    return [
        SamplingParams(max_tokens=24, temperature=temperature, seed=index, **{**values, **rules})
        for index, rules in enumerate(RULES)
    ]


def greedy_by(oracle, llm: LLM, prompt: list[int], params: SamplingParams) -> list[int]:
    """The greedy tokens of transformers, forbidden ones left out one by one."""
    words = [llm.tokenizer.encode_words(word) for word in params.bad_words]
    output: list[int] = []
    while len(output) < params.max_tokens:
        with torch.no_grad():
            logits = oracle(torch.tensor([prompt + output])).logits[0, -1]
        for token in range(VOCAB_SIZE):
            allowed = params.allowed_token_ids is None or token in params.allowed_token_ids
            ended = [*output, token]
            completes = any(ended[-len(word) :] == word for word in words)
            ends = token in (END, *params.stop_token_ids)
            if not allowed or completes or (ends and len(output) < params.min_tokens):
                logits[token] = -torch.inf
            logits[token] += (params.logit_bias or {}).get(token, 0.0)
        output.append(int(logits.argmax()))
        if output[-1] in (END, *params.stop_token_ids):
            break
    return output


@pytest.mark.parametrize("index", [0, 1, 2])
def test_greedy_tokens_are_those_of_transformers(llm, folder, index):
    params = SamplingParams(max_tokens=16, **{**RULES[index], "repetition_penalty": 1.0})
    wanted = greedy_by(load_oracle(folder), llm, PROMPTS[index], params)
    assert tokens_of(llm, [PROMPTS[index]], params) == [wanted]
    assert wanted != tokens_of(llm, [PROMPTS[index]], SamplingParams())[0]


@pytest.mark.parametrize("temperature", [0.0, 1.2])
def test_a_request_does_not_depend_on_the_others(llm, temperature):
    params = params_of(temperature, n=2, logprobs=1)
    together = seen(llm.generate(PROMPTS, params))
    alone = [seen(llm.generate([p], q))[0] for p, q in zip(PROMPTS, params, strict=True)]
    assert together == alone


@pytest.mark.parametrize("draft", ["text", "itself", "other"])
@pytest.mark.parametrize("temperature", [0.0, 0.3])
def test_drafts_change_nothing(llm, folder, toy, draft, temperature):
    params = params_of(temperature, n=2, logprobs=1, frequency_penalty=-1.0)
    other = folder if draft == "itself" else toy("opt", num_hidden_layers=1, seed=7)
    options = {"speculation": "prompt-lookup"}
    if draft != "text":
        options = {"speculation": "draft-model", "draft_model": other}
    wanted = seen(llm.generate(PROMPTS, params))
    with open_llm(folder, **options) as drafting:
        assert seen(drafting.generate(PROMPTS, params)) == wanted
        assert drafting.stats.drafted


def test_a_model_that_drafts_for_itself_keeps_to_the_rules(folder):
    params = SamplingParams(max_tokens=24, ignore_eos=True, temperature=1.0, **RULES[2])
    with open_llm(folder, speculation="draft-model", draft_model=folder) as drafting:
        drafting.generate(PROMPTS, params)
        assert drafting.stats.accepted == drafting.stats.drafted > 0


@settings(max_examples=5)
@given(st.integers(0, 3), st.integers(1, 40), st.booleans(), st.sampled_from([0.0, 1.2]))
def test_preempted_requests_keep_to_their_rules(
    llm, folder, spare_blocks, rows, sharing, temperature
):
    params = [replace(one, max_tokens=50) for one in params_of(temperature, logprobs=1)]
    wanted = seen(llm.generate(PROMPTS, params))
    plan = tight(
        folder,
        PROMPTS,
        50,
        spare_blocks,
        max_sequences=6,
        sweep_tokens=6 + rows,
        micro_batch_tokens=min(16, 6 + rows),
    )
    with open_llm(folder, plan=plan, prefix_sharing=sharing) as small:
        assert seen(small.generate(PROMPTS, params)) == wanted
        assert all_blocks_are_back(small)


def test_log_probabilities_are_those_of_the_model(llm, folder):
    (prompt,) = PROMPTS[:1]
    params = SamplingParams(max_tokens=3, allowed_token_ids=[7, 9], logprobs=2, temperature=0.5)
    (output,) = llm.generate([prompt], params)
    tokens = output.outputs[0].token_ids
    with torch.no_grad():
        table = load_oracle(folder)(torch.tensor([prompt + tokens])).logits[0].log_softmax(-1)
    for place, (token, found) in enumerate(zip(tokens, output.outputs[0].logprobs, strict=True)):
        row = table[len(prompt) - 1 + place]
        assert token in (7, 9)
        assert found[token].logprob == pytest.approx(float(row[token]), abs=2e-4)
        assert found[token].rank == int((row > row[token]).sum()) + 1
        assert found[token].decoded_token == llm.get_tokenizer().decode([token])
        assert {*row.topk(2).indices.tolist()} <= found.keys()


def test_fewer_tokens_than_wanted_where_the_context_ends(llm):
    (prompt,) = prompts_of(MAX_POSITIONS - 4)
    (output,) = llm.generate([prompt], SamplingParams(max_tokens=90, min_tokens=50))
    assert len(output.outputs[0].token_ids) == 4


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"allowed_token_ids": [VOCAB_SIZE]}, "allowed_token_ids has the token id 131, outside 0"),
        ({"bad_words": ["  "]}, "bad_words has '  ', which has no tokens; leave it out"),
    ],
)
def test_rules_that_cannot_be_kept_are_said_before_a_sweep(llm, values, message):
    with pytest.raises(RequestError, match=message):
        llm.generate(PROMPTS, SamplingParams(**values))


def test_bad_words_need_a_tokenizer_and_other_rules_do_not(toy):
    with open_llm(toy("llama")) as llm:
        with pytest.raises(CheckpointError, match="has no tokenizer that can be loaded"):
            llm.generate(PROMPTS, SamplingParams(bad_words=["A"]))
        params = SamplingParams(max_tokens=2, allowed_token_ids=[7], logprobs=0)
        (output,) = llm.generate(PROMPTS[:1], params)[0].outputs
        assert output.token_ids == [7, 7]
        assert output.logprobs[0][7].decoded_token is None


@pytest.mark.parametrize("kept", [1, 4, 20, 900, -1])
def test_of_a_long_prompt_the_last_tokens_are_kept(llm, kept):
    params = SamplingParams(max_tokens=3, truncate_prompt_tokens=kept)
    (long,) = prompts_of(MAX_POSITIONS + 30)
    for prompt in (long, long[:20]):
        left = prompt[-(MAX_POSITIONS - 1 if kept == -1 else kept) :]
        if len(left) >= MAX_POSITIONS:
            with pytest.raises(RequestError, match="shorten it"):
                llm.generate([prompt], params)
        else:
            (output,) = llm.generate([prompt], params)
            assert output.prompt_token_ids == left
            (same,) = llm.generate([left], SamplingParams(max_tokens=3))
            assert output.outputs == same.outputs
