"""Reasoning and calls as clients get them, whole and streamed, by templates and by names."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import httpx
import pytest

from lm_offload import LLM, SamplingParams
from lm_offload.sampling.reasoning_ways import WAYS
from lm_offload.server.batch_lines import BatchLine, job_of, response_line
from lm_offload.server.marked_calls import BEGIN, CALL_BEGIN, CALL_END, SEPARATOR
from lm_offload.server.parser_names import ReasoningParser, ToolCallParser
from lm_offload.server.parsers import FORMS, parsers_for
from tests.cli.conftest import demo
from tests.server.conftest import KEY, served
from tests.server.stand_in import StandIn, chat, client_of, streamed, tokenizer_with

__all__ = ["demo"]
SAID = "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ m.reasoning_content }}\n{% endfor %}"
QWEN = SAID + (
    "{{ reasoning_effort }}assistant\n"
    "{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}"
)
OPENED = SAID + "assistant\n<think>\n{% if false %}</think>{% endif %}"
HARMONY = SAID + "<|start|>assistant{% if false %}<|channel|>{% endif %}"
HARMONY_TOKENS = [
    *("<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|call|>", "<|constrain|>"),
    "<|return|>",
]
PARAMETERS = {"type": "object", "properties": {"a": {"type": "integer"}}}
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": PARAMETERS}}]
THOUGHT = "<think>\nTwo and two.\n</think>\n\nIt is 4."
HERMES_CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 7}}\n</tool_call>'
CODER_CALL = (
    "<tool_call>\n<function=add>\n<parameter=a>\n7\n</parameter>\n</function>\n</tool_call>"
)
GLM_CALL = "<tool_call>add\n<arg_key>a</arg_key>\n<arg_value>7</arg_value>\n</tool_call>"
DEEPSEEK_CALL = f'{BEGIN}{CALL_BEGIN}add{SEPARATOR}{{"a": 7}}{CALL_END}'
HARMONY_CALL = (
    "<|channel|>analysis<|message|>I add.<|end|><|start|>assistant<|channel|>commentary "
    'to=functions.add <|constrain|>json<|message|>{"a": 7}<|call|>'
)


@pytest.fixture
def worker(tmp_path: Path):
    return lambda template, text, special=(): StandIn(
        tokenizer_with(tmp_path, template, special), text
    )


def both(client, **more) -> tuple[str | None, str | None, str]:
    """Reasoning, content and the reason of the end, the same whole and streamed."""
    choice = chat(client, **more)
    message = choice["message"]
    joined, _ = streamed(client, **more)
    assert joined["role"] == message["role"] == "assistant"
    assert joined.get("content", "") == (message["content"] or "")
    for key in ("reasoning_content", "reasoning"):
        assert joined.get(key) == message.get(key)
    assert message.get("reasoning") == message.get("reasoning_content")
    assert joined["finish_reason"] == choice["finish_reason"]
    return message.get("reasoning"), message["content"], choice["finish_reason"]


@pytest.mark.parametrize("step", [1, 3, 1000])
@pytest.mark.parametrize(
    ("template", "text", "found"),
    [
        (QWEN, THOUGHT, ("Two and two.", "It is 4.")),
        (QWEN, "It is 4.", (None, "It is 4.")),
        (OPENED, "Two and two.</think>It is 4.", ("Two and two.", "It is 4.")),
        (OPENED, THOUGHT, ("Two and two.", "It is 4.")),
        (OPENED, "Two and", ("Two and", None)),
        (SAID, THOUGHT, (None, THOUGHT)),
        (
            HARMONY,
            "<|channel|>analysis<|message|>Two.<|end|><|start|>assistant<|channel|>final<|message|>4.",
            ("Two.", "4."),
        ),
    ],
)  # fmt: skip
def test_reasoning_is_apart_from_content(worker, template, text, found, step):
    asked = worker(template, text)
    asked.step = step
    assert both(client_of(asked)) == (*found, "stop")


def test_what_was_cut_off_is_not_lost(worker):
    cut = worker(QWEN, "<think>\nTwo and </thi")
    cut.finish_reason = "length"
    assert both(client_of(cut)) == ("Two and </thi", None, "length")
    cut.text = f"<think>I add.</think>{HERMES_CALL[:-22]}"
    reasoning, content, reason = both(client_of(cut), tools=TOOLS)
    assert (reasoning, content, reason) == ("I add.", HERMES_CALL[:-22], "length")


def test_a_stream_shows_reasoning_before_content(worker):
    _, choices = streamed(client_of(worker(QWEN, THOUGHT)))
    deltas = [choice["delta"] for choice in choices]
    kinds = ["reasoning" if it.get("reasoning") else "content" for it in deltas]
    assert kinds[1:] == sorted(kinds[1:], reverse=True)
    assert not any(it.get("reasoning") and it.get("content") for it in deltas)
    assert len(deltas) > 5


def test_clients_may_leave_reasoning_out(worker):
    client = client_of(worker(QWEN, THOUGHT))
    assert both(client, include_reasoning=False) == (None, "It is 4.", "stop")
    _, choices = streamed(client, include_reasoning=False)
    assert all("content" in choice["delta"] for choice in choices)


def test_the_template_is_told_whether_to_think(worker):
    asked = worker(QWEN, "<think>It is 4.")
    both(client_of(asked), chat_template_kwargs={"enable_thinking": False}, reasoning_effort="low")
    assert asked.prompts[0].endswith("lowassistant\n<think>\n\n</think>\n\n")
    both(client_of(asked))
    assert asked.prompts[-1].endswith("assistant\n")


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning"])
def test_the_template_gets_what_earlier_answers_reasoned(worker, key):
    asked = worker(QWEN, "4")
    messages = [{"role": "assistant", "content": "4.", key: "Two and two."}]
    chat(client_of(asked), messages=messages)
    assert "assistant: 4.Two and two." in asked.prompts[0]


def test_templates_that_join_arguments_get_text(worker):
    joining = (
        "{% for m in messages %}{{ m['content'] }}{% for c in m['tool_calls'] or [] %}"
        "{{ '<' + c['function']['arguments'] + '>' }}{% endfor %}{% endfor %}"
    )
    function = {"name": "add", "arguments": '{"a": "\u00e9"}'}
    called = {"id": "1", "type": "function", "function": function}
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": None, "tool_calls": [called]},
    ]
    asked = worker(joining, "4")
    chat(client_of(asked), messages=messages)
    assert asked.prompts == ['Hi<{"a": "\u00e9"}>']


@pytest.mark.parametrize("content", ["", "4."])
def test_gpt_oss_gets_its_thoughts_beside_calls_alone(worker, content):
    asked = worker(HARMONY + "{{ messages[0].thinking or 'none' }}", "4", HARMONY_TOKENS)
    messages = [{"role": "assistant", "content": content, "reasoning": "Two."}]
    chat(client_of(asked), messages=messages)
    assert asked.prompts[0].endswith("none" if content else "Two.")


@pytest.mark.parametrize(
    ("template", "call", "special"),
    [
        (QWEN, HERMES_CALL, ()),
        (QWEN + "{# <function= #}", CODER_CALL, ()),
        (QWEN + "{# <arg_key> #}", GLM_CALL, ["<tool_call>", "</tool_call>", "<arg_key>"]),
        (QWEN, GLM_CALL, ()),
        (QWEN + f"{{# {BEGIN} #}}", DEEPSEEK_CALL, [BEGIN]),
        (HARMONY, HARMONY_CALL, HARMONY_TOKENS),
    ],
)
def test_calls_are_found_after_reasoning(worker, template, call, special):
    text = call if template == HARMONY else f"<think>I add.</think>\n\n{call}"
    asked = worker(template, text, special)
    assert both(client_of(asked), tools=TOOLS) == ("I add.", None, "tool_calls")
    message, _ = streamed(client_of(asked), tools=TOOLS)
    for (found,) in (
        chat(client_of(asked), tools=TOOLS)["message"]["tool_calls"],
        message["tool_calls"],
    ):
        assert found["function"]["name"] == "add"
        assert json.loads(found["function"]["arguments"]) == {"a": 7}
    assert asked.params[0].skip_special_tokens == (not special)  # marks must be in the text


def test_a_call_within_reasoning_is_none(worker):
    text = f"<think>{HERMES_CALL}</think>No."
    assert both(client_of(worker(QWEN, text)), tools=TOOLS) == (HERMES_CALL, "No.", "stop")


def test_parsers_that_are_named_win(worker):
    asked = worker(SAID, "Two and two.</think>It is 4.")
    assert both(client_of(asked, "deepseek_r1"))[:2] == ("Two and two.", "It is 4.")
    assert both(client_of(asked, "qwen3"))[:2] == (None, asked.text)
    asked.text = THOUGHT
    assert both(client_of(asked, "glm45"))[:2] == ("Two and two.", "It is 4.")
    asked.text = HERMES_CALL
    assert both(client_of(asked, "auto", "hermes"), tools=TOOLS)[2] == "tool_calls"
    for other in ("none", "mistral", "qwen3_coder"):
        assert both(client_of(asked, "auto", other), tools=TOOLS) == (None, HERMES_CALL, "stop")


def test_no_parser_leaves_the_text_as_it_is(worker):
    assert both(client_of(worker(QWEN, THOUGHT), "none"))[:2] == (None, THOUGHT)


def test_a_form_is_that_of_the_content(worker):
    asked, form = worker(QWEN, THOUGHT), {"type": "json_object"}
    chat(client_of(asked), response_format=form)
    chat(client_of(asked, "none"), response_format=form)
    ways = [params.structured_outputs.after_reasoning for params in asked.params]
    assert ways == ["qwen3", None]
    asked.text = '<think>I add.</think>{"name": "add", "arguments": {"a": 7}}'
    assert both(client_of(asked), tools=TOOLS, tool_choice="required")[2] == "tool_calls"


def test_the_names_are_those_of_the_options(worker):
    assert ReasoningParser.__args__ == ("auto", "none", *WAYS)
    assert ToolCallParser.__args__ == ("auto", "none", *FORMS)
    tokenizer = worker(HARMONY, "").tokenizer
    assert parsers_for(tokenizer).forms == (FORMS["openai"],)
    assert FORMS["openai"] not in parsers_for(worker(QWEN, "").tokenizer).forms


@pytest.fixture(scope="module")
def opened(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model with a template that opens reasoning, which it never ends."""
    folder = Path(shutil.copytree(demo, tmp_path_factory.mktemp("opened") / "model"))
    tokenizer_with(folder, OPENED)
    return folder


def test_the_model_itself_reasons_where_the_prompt_says_so(opened):
    messages, prompt = [{"role": "user", "content": "Hi"}], "user: Hi\nassistant\n<think>\n"
    asked = {"model": "demo", "messages": messages, "max_tokens": 20, "temperature": 0}
    with served(opened) as (_, address):
        headers = {"Authorization": f"Bearer {KEY}"}
        with httpx.Client(base_url=f"{address}/v1", headers=headers, timeout=60) as http:
            found = http.post("/chat/completions", json=asked).json()["choices"][0]
            bound = {**asked, "structured_outputs": {"regex": "[0-9]{3}"}}
            free = http.post("/chat/completions", json=bound).json()["choices"][0]
    with LLM(opened, threads=1) as llm:
        (expected,) = llm.generate(prompt, SamplingParams(max_tokens=20))
        line = BatchLine(custom_id="1", url="/v1/chat/completions", body=asked)
        job = job_of(line, "demo", llm, parsers_for(llm.tokenizer))
        outputs = llm.generate(job.prompts, job.question.params)
        (batched,) = response_line(job, outputs)["response"]["body"]["choices"]
    assert found["message"]["reasoning_content"] == expected.text.strip()
    assert found["message"]["content"] is None
    assert found["message"] == free["message"] == batched["message"]
    assert found["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("template", "role"),
    [(SAID, "system"), (SAID + "{% if false %}developer{% endif %}", "developer")],
)
def test_a_developer_is_the_system_where_the_template_knows_none(worker, template, role):
    asked = worker(template, "It is 4.")
    chat(client_of(asked), messages=[{"role": "developer", "content": "Briefly."}])
    assert asked.prompts[0].startswith(f"{role}: Briefly.")
