"""Conversations: one or several, what templates take besides, and what they refuse."""

from __future__ import annotations

import json
import shutil

import pytest

from lm_offload import SamplingParams
from lm_offload.errors import RequestError
from tests.engine.harness import open_llm
from tests.engine.tokenizer_file import write_tokenizer

TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{{ m['content'] }}{% endfor %}{% for t in tools or [] %}[{{ t['function']['name'] }}]"
    "{% endfor %}{% if thinking %}(T){% endif %}{% if add_generation_prompt %}:{% endif %}"
)
TOOL = {"type": "function", "function": {"name": "ADD", "parameters": {}, "description": ""}}


@pytest.fixture(scope="module")
def llm(toy, tmp_path_factory):
    copied = shutil.copytree(toy("llama"), tmp_path_factory.mktemp("chat") / "model")
    folder = write_tokenizer(copied)
    declared = json.loads((folder / "tokenizer_config.json").read_text())
    declared["chat_template"] = TEMPLATE
    (folder / "tokenizer_config.json").write_text(json.dumps(declared))
    with open_llm(folder) as llm:
        yield llm


def ask(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def prompts(llm, messages, **template) -> list[str]:
    outputs = llm.chat(messages, SamplingParams(max_tokens=2), **template)
    return [llm.tokenizer.decode(output.prompt_token_ids) for output in outputs]


def test_one_conversation_or_several(llm):
    assert prompts(llm, ask("HI")) == ["HI:"]
    assert prompts(llm, [ask("HI"), ask("HO")]) == ["HI:", "HO:"]


def test_the_answer_is_that_to_the_prompt(llm):
    params = SamplingParams(max_tokens=6)
    (output,) = llm.chat(ask("HI"), params)
    assert output.outputs[0].text == llm.generate("HI:", params)[0].outputs[0].text


def test_what_the_template_takes_besides(llm):
    assert prompts(llm, ask("HI"), tools=[TOOL]) == ["HI[ADD]:"]
    assert prompts(llm, ask("HI"), thinking=True) == ["HI(T):"]
    assert prompts(llm, ask("HI"), add_generation_prompt=False) == ["HI"]


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([{"role": "system", "content": "HI"}, *ask("HI")], "System role not supported"),
        ("HELLO", "refuses these messages"),
        ([["HI"]], "refuses these messages"),
    ],
)
def test_messages_that_the_template_refuses(llm, messages, words):
    with pytest.raises(RequestError, match=words):
        llm.chat(messages)
