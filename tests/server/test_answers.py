"""OpenAI's own client gets what the Python API gives."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from lm_offload import LLM, SamplingParams

MESSAGES = [{"role": "system", "content": "Code."}, {"role": "user", "content": "def add("}]


@pytest.fixture(scope="module")
def llm(chatty):
    with LLM(chatty, threads=1) as llm:
        yield llm


def test_a_completion_is_that_of_the_python_api(client, llm):
    answer = client.completions.create(
        model="demo", prompt="def add(", max_tokens=24, temperature=0, logprobs=2
    )
    (expected,) = llm.generate("def add(", SamplingParams(max_tokens=24, logprobs=2))
    (choice,) = answer.choices
    completion = expected.outputs[0]
    assert choice.text == completion.text
    assert choice.finish_reason == completion.finish_reason
    assert answer.usage.prompt_tokens == len(expected.prompt_token_ids)
    assert answer.usage.completion_tokens == len(completion.token_ids)
    places = zip(completion.token_ids, completion.logprobs, strict=True)
    assert choice.logprobs.token_logprobs == [place[token].logprob for token, place in places]
    assert all(len(top) >= 2 for top in choice.logprobs.top_logprobs)


def test_many_prompts_with_several_completions_come_in_order(client, llm):
    prompts = ["import os", "class Thing", llm.tokenizer.encode("for i in")]
    answer = client.completions.create(
        model="demo", prompt=prompts[:2], n=2, seed=7, temperature=0.8, max_tokens=9
    )
    params = SamplingParams(n=2, seed=7, temperature=0.8, max_tokens=9)
    expected = [one.text for output in llm.generate(prompts[:2], params) for one in output.outputs]
    assert [choice.text for choice in answer.choices] == expected
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    of_ids = client.completions.create(model="demo", prompt=prompts[2], temperature=0)
    (expected,) = llm.generate([prompts[2]])
    assert of_ids.choices[0].text == expected.text


def test_a_stream_joins_to_the_whole_and_ends_with_its_usage(client):
    asked = {"model": "demo", "prompt": "while True:", "max_tokens": 30, "temperature": 0}
    whole = client.completions.create(**asked)
    chunks = list(
        client.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    )
    assert "".join(chunk.choices[0].text for chunk in chunks[:-1]) == whole.choices[0].text
    reasons = [chunk.choices[0].finish_reason for chunk in chunks[:-1]]
    assert reasons == [None] * (len(reasons) - 1) + [whole.choices[0].finish_reason]
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert len(chunks) > 5


def test_offsets_of_tokens_go_on_in_a_stream(client):
    asked = {"model": "demo", "prompt": "def f(", "max_tokens": 9, "temperature": 0, "logprobs": 1}
    whole = client.completions.create(**asked).choices[0].logprobs
    chunks = [
        chunk.choices[0].logprobs for chunk in client.completions.create(**asked, stream=True)
    ]
    assert [offset for chunk in chunks for offset in chunk.text_offset] == whole.text_offset
    assert [token for chunk in chunks for token in chunk.tokens] == whole.tokens
    assert len({*whole.text_offset}) == 9


def test_usage_in_a_stream_is_null_until_its_end_or_counted_on(client):
    asked = {"model": "demo", "messages": MESSAGES, "max_tokens": 9, "stream": True}
    for more, found in (({}, {None}), ({"continuous_usage_stats": True}, {int})):
        options = {"include_usage": True, **more}
        *chunks, last = client.chat.completions.create(**asked, stream_options=options)
        counts = [chunk.usage and chunk.usage.completion_tokens for chunk in chunks]
        assert {type(count) if count else count for count in counts} == found
        assert last.usage.completion_tokens >= max(count or 0 for count in counts)
        assert last.choices == []
    assert counts == sorted(counts)
    assert counts[-1] == last.usage.completion_tokens
    assert all(
        "usage" not in chunk.model_fields_set for chunk in client.chat.completions.create(**asked)
    )


def test_chat_answers_by_the_template(client, llm):
    parts = [MESSAGES[0], {"role": "user", "content": [{"type": "text", "text": "def add("}]}]
    (expected,) = llm.chat(MESSAGES, SamplingParams(max_tokens=20, logprobs=1))
    for messages in (MESSAGES, parts):
        answer = client.chat.completions.create(
            model="demo",
            messages=messages,
            max_completion_tokens=20,
            temperature=0,
            logprobs=True,
            top_logprobs=1,
        )
        (choice,) = answer.choices
        assert choice.message.role == "assistant"
        assert choice.message.content == expected.text
        places = choice.logprobs.content
        assert len(places) == len(expected.outputs[0].token_ids)
        assert all(len(place.top_logprobs) == 1 for place in places)
        assert places[0].logprob == places[0].top_logprobs[0].logprob


def test_a_streamed_conversation_says_whose_it_is_once(client):
    asked = {"model": "demo", "messages": MESSAGES, "max_tokens": 12, "n": 2, "seed": 1}
    whole = client.chat.completions.create(**asked)
    texts, roles = ["", ""], [0, 0]
    for chunk in client.chat.completions.create(**asked, stream=True):
        (choice,) = chunk.choices
        texts[choice.index] += choice.delta.content
        roles[choice.index] += choice.delta.role == "assistant"
    assert texts == [choice.message.content for choice in whole.choices]
    assert roles == [1, 1]


def test_stop_strings_end_a_stream_before_they_show(client):
    asked = {"model": "demo", "prompt": "def add(a, b):", "max_tokens": 40, "temperature": 0}
    whole = client.completions.create(**asked).choices[0].text
    stop = whole[8:12]
    chunks = client.completions.create(**asked, stop=[stop], stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole[: whole.find(stop)]


def test_what_else_sampling_parameters_have_takes_effect(client, llm):
    (banned,) = llm.tokenizer.encode("return")[-1:]
    asked = {"model": "demo", "prompt": "def f(x):", "max_tokens": 20, "temperature": 0}
    more = {"min_tokens": 12, "bad_words": ["self"], "truncate_prompt_tokens": 4}
    answer = client.completions.create(
        **asked, stop="\n", logit_bias={str(banned): -100}, extra_body=more
    )
    params = SamplingParams(max_tokens=20, stop="\n", logit_bias={banned: -100}, **more)
    (expected,) = llm.generate("def f(x):", params)
    assert answer.choices[0].text == expected.text
    assert answer.usage.prompt_tokens == 4


def test_without_a_seed_drawn_texts_differ(client):
    asked = {"model": "demo", "prompt": "x = ", "max_tokens": 24}
    texts = {client.completions.create(**asked).choices[0].text for _ in range(3)}
    assert len(texts) > 1


def test_clients_at_the_same_time_get_what_each_gets_alone(client):
    def ask(number: int) -> str:
        answer = client.completions.create(
            model="demo", prompt=f"value_{number} = ", max_tokens=10 + number, temperature=0
        )
        return answer.choices[0].text

    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(ask, range(8)))
    assert together == [ask(number) for number in range(8)]


def test_the_model_is_listed(client):
    (model,) = client.models.list()
    assert model.id == "demo"
    assert model.max_model_len == 256
