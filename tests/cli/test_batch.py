"""Files of OpenAI's batch requests: answers by custom_id, refusals beside them, going on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from openai.types import Completion
from openai.types.chat import ChatCompletion
from openai.types.responses import Response

from lm_offload import LLM, SamplingParams
from tests.cli.conftest import Done, Run

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"


def line(custom_id: str, url: str = COMPLETIONS, **body: Any) -> dict[str, Any]:
    asked = {"model": "m", "temperature": 0, "max_tokens": 4, **body}
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": asked}


RESPONSES = "/v1/responses"
LINES = [
    line("code", prompt="import os", max_tokens=6, logprobs=1),
    line("two", prompt=["def add(", "class A"], n=2, temperature=0.7, seed=3),
    line("talk", CHAT, messages=[{"role": "user", "content": "Hi"}], stop="\n"),
    line("hot", prompt="x", temperature="hot"),
    line("long", prompt="x " * 4000),
    line("stream", prompt="x", stream=True),
]


class Batch:
    """The command over a file of lines."""

    def __init__(self, run: Run, model: Path, folder: Path):
        self._run, self._model, self._folder = run, str(model), folder
        self.output = folder / "out.jsonl"

    def __call__(self, lines: list[Any], *arguments: str) -> Done:
        file = self._folder / "in.jsonl"
        texts = [one if isinstance(one, str) else json.dumps(one) for one in lines]
        file.write_text("\n".join(texts) + "\n")
        return self.over(file, *arguments)

    def over(self, file: Path, *arguments: str) -> Done:
        """The command over a file that is there."""
        common = ["-i", str(file), "-o", str(self.output), "--served-model-name", "m", "--quiet"]
        return self._run("batch", self._model, *common, *arguments)

    def records(self) -> dict[str, Any]:
        """The responses by the custom_id of their request; none has two."""
        found = [json.loads(text) for text in self.output.read_text().splitlines()]
        assert all(one["error"] is None for one in found)
        return {one["custom_id"]: one["response"] for one in found}


@pytest.fixture
def batch(run: Run, chatty: Path, tmp_path: Path) -> Batch:
    return Batch(run, chatty, tmp_path)


def test_answers_are_those_of_the_python_api_and_of_openais_types(batch, chatty):
    done = batch(LINES)
    assert done.returncode == 0, done.stderr
    found = batch.records()
    assert {name: one["status_code"] for name, one in found.items()} == {
        "code": 200, "two": 200, "talk": 200, "hot": 400, "long": 400, "stream": 400,
    }  # fmt: skip
    code = Completion.model_validate(found["code"]["body"])
    two = Completion.model_validate(found["two"]["body"])
    talk = ChatCompletion.model_validate(found["talk"]["body"])
    with LLM(chatty) as llm:
        (expected,) = llm.generate("import os", SamplingParams(max_tokens=6))
        assert code.choices[0].text == expected.text
        assert len(code.choices[0].logprobs.tokens) == len(expected.outputs[0].token_ids)
        params = SamplingParams(max_tokens=4, n=2, temperature=0.7, seed=3)
        several = llm.generate(["def add(", "class A"], params)
        texts = [one.text for output in several for one in output.outputs]
        assert [choice.text for choice in two.choices] == texts
        message = [{"role": "user", "content": "Hi"}]
        (answer,) = llm.chat(message, SamplingParams(max_tokens=4, stop="\n"))
        assert talk.choices[0].message.content == answer.text
    assert "temperature is 'hot'" in found["hot"]["body"]["error"]["message"]
    assert "the model's context is" in found["long"]["body"]["error"]["message"]
    assert "leave it out" in found["stream"]["body"]["error"]["message"]


def test_responses_are_those_of_the_server(batch):
    asked = {"input": "Hi", "temperature": 0, "max_output_tokens": 4}
    record = {"custom_id": "items", "method": "POST", "url": RESPONSES, "body": asked}
    later = {"model": "m", "previous_response_id": "resp_1", "input": "Hi"}
    done = batch([record, {**record, "custom_id": "later", "body": later}, LINES[2]])
    assert done.returncode == 0, done.stderr
    found = batch.records()
    response = Response.model_validate(found["items"]["body"])
    assert response.model == "m"
    assert response.output_text
    assert response.usage.output_tokens == 4
    assert found["later"]["status_code"] == 400


def test_another_request_or_model_is_not_gone_on_with(batch):
    batch(LINES[:1])
    before = batch.output.read_text()
    changed = line("code", prompt="import re", max_tokens=6, logprobs=1)
    for lines, options, words in (
        ([changed, *LINES[1:3]], [], "of request 'code' that was made with request 'sha256:"),
        (LINES[:3], ["--kv-format", "int8"], "made with kv_format 'bf16', now it is 'int8:row'"),
        (LINES[:3], ["--reasoning-parser", "qwen3"], "with reasoning_parser as by default, now"),
    ):
        done = batch(lines, "--resume", *options)
        assert done.returncode == 2
        assert words in done.stderr
    assert batch.output.read_text() == before


def test_forms_and_tools_are_those_of_the_server(batch):
    tool = {"type": "function", "function": {"name": "add"}}
    talk = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 60}
    held = {"type": "json_schema", "json_schema": {"name": "it", "schema": {"enum": [1, 2]}}}
    done = batch(
        [
            line("call", CHAT, **talk, tools=[tool], tool_choice="required"),
            line("json", prompt="x", response_format=held),
            line("regex", prompt="x", structured_outputs={"regex": "("}),
        ]
    )
    assert done.returncode == 0, done.stderr
    found = batch.records()
    (choice,) = ChatCompletion.model_validate(found["call"]["body"]).choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls[0].function.arguments == "{}"
    assert found["json"]["body"]["choices"][0]["text"] in ("1", "2")
    assert found["regex"]["status_code"] == 400
    assert "cannot be compiled" in found["regex"]["body"]["error"]["message"]


def test_resume_leaves_out_what_is_answered(batch):
    batch(LINES[:1])
    whole = batch.output.read_text()
    batch.output.write_text(whole + '{"custom_id": "two", "resp')  # as a killed process leaves it
    done = batch(LINES[:3], "--resume")
    assert done.returncode == 0, done.stderr
    assert batch.output.read_text().startswith(whole)
    assert batch.records().keys() == {"code", "two", "talk"}
    lengths = len(batch.output.read_text())
    assert batch(LINES[:3], "--resume").returncode == 0
    assert len(batch.output.read_text()) == lengths


def test_what_was_refused_is_tried_again(batch):
    batch(LINES[3:4])
    batch([line("hot", prompt="x", temperature=1, seed=1)], "--resume")
    assert batch.records()["hot"]["status_code"] == 200


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["{"], "in.jsonl:1 is no line of a batch"),
        (
            [LINES[0], {**LINES[1], "url": "/v1/embeddings"}],
            "in.jsonl:2 is no line of a batch: url",
        ),
        ([{"prompt": "x"}], "custom_id is missing"),
        ([LINES[0], LINES[0]], "has the custom_id 'code' of an earlier line"),
        ([" "], "holds no request"),
    ],
)
def test_a_file_that_is_no_batch_is_refused_before_anything_runs(batch, lines, words):
    done = batch(lines)
    assert done.returncode == 7
    assert words in done.stderr
    assert not batch.output.exists()


def test_answers_are_not_put_among_their_requests(batch):
    requests = json.dumps(LINES[0]) + "\n"
    batch.output.write_text(requests)
    again = batch.over(batch.output)
    assert again.returncode == 2
    assert "name another output" in again.stderr
    assert batch.output.read_text() == requests


def test_a_file_without_answers_is_not_gone_on_with(batch):
    requests = json.dumps(LINES[0]) + "\n"
    batch.output.write_text(requests)
    done = batch(LINES[:1], "--resume")
    assert done.returncode == 2
    assert "cannot be gone on with" in done.stderr
    assert batch.output.read_text() == requests


def test_an_answer_begins_a_line_where_the_last_one_has_no_end(batch):
    batch.output.write_text('{"custom_id": "x", "resp')
    assert batch(LINES[:1]).returncode == 0
    cut, *whole = batch.output.read_text().splitlines()
    assert cut == '{"custom_id": "x", "resp'
    assert [json.loads(one)["custom_id"] for one in whole] == ["code"]


def test_a_template_that_takes_no_messages_is_one_line(batch):
    talk = line("talk", CHAT, messages=[{"role": "user", "content": "Hi"}])
    talk["body"]["chat_template_kwargs"] = {"messages": []}
    done = batch([talk, LINES[0]])
    assert done.returncode == 0, done.stderr
    found = batch.records()
    assert (found["talk"]["status_code"], found["code"]["status_code"]) == (400, 200)


def test_requests_for_another_model_are_refused(batch):
    batch([line("a", prompt="x", model="gpt")])
    response = batch.records()["a"]
    assert response["status_code"] == 400
    assert "--served-model-name" in response["body"]["error"]["message"]


def test_resume_needs_a_file(run, chatty, tmp_path):
    (tmp_path / "in.jsonl").write_text(json.dumps(LINES[0]))
    done = run("batch", str(chatty), "-i", str(tmp_path / "in.jsonl"), "--resume")
    assert done.returncode == 2
    assert "--output FILE" in done.stderr
