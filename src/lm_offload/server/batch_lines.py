"""OpenAI's batch files: a line for each request, a line for each response.

::

    {"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {"model": ...}}
    {"id": ..., "custom_id": "a", "response": {"status_code": 200, "body": {...}}, "error": null}
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Any, Literal
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, ValidationError

from lm_offload.engine.llm import LLM
from lm_offload.engine.open_run import Delta
from lm_offload.engine.outputs import RequestOutput
from lm_offload.engine.tokenizer import Tokenizer
from lm_offload.errors import LMOffloadError, RequestError, StorageError
from lm_offload.server.answer_forms import Json
from lm_offload.server.bodies import ChatBody, CompletionBody
from lm_offload.server.error_object import error_object, sentence_of, status_of, telling
from lm_offload.server.parsers import Parsers
from lm_offload.server.questions import Question, of_chat, of_completion, of_response
from lm_offload.server.replies import Choice
from lm_offload.server.response_body import ResponseBody

OK = 200


class BatchLine(BaseModel):
    """A request of a batch; its body is looked at when its turn comes."""

    model_config = ConfigDict(extra="forbid")

    custom_id: str
    method: Literal["POST"] = "POST"
    url: Literal["/v1/completions", "/v1/chat/completions", "/v1/responses"]
    body: dict[str, Any]


@dataclass(frozen=True)
class Job:
    """A line that can be run."""

    custom_id: str
    question: Question
    prompts: Items[Items[int]]


def read_line(text: str, place: str) -> BatchLine:
    """A line of a file; raises RequestError that names its `place` where it is none."""
    try:
        return BatchLine.model_validate_json(text)
    except ValidationError as error:
        raise RequestError(
            f"{place} is no line of a batch: {_words(error)} See docs/server.md for one."
        ) from error


def job_of(line: BatchLine, model: str, llm: LLM, parsers: Parsers) -> Job:
    """Raises RequestError for a body that cannot be served."""
    tokenizer = llm.tokenizer
    question = _question(line, model, tokenizer, parsers)
    if question.model != model:
        raise RequestError(
            f"The model {question.model!r} was asked for; this is {model!r}, or what "
            "--served-model-name says."
        )
    made = [prompt() for prompt in question.prompts]
    prompts = [tokenizer.encode(one) if isinstance(one, str) else one for one in made]
    llm.check(prompts, question.params)
    return Job(line.custom_id, question, prompts)


def _question(line: BatchLine, model: str, tokenizer: Tokenizer, parsers: Parsers) -> Question:
    if line.body.get("stream"):
        raise RequestError("stream is true; a batch answers whole, so leave it out.")
    body = {"model": model, **line.body}
    try:
        if line.url == "/v1/completions":
            return of_completion(CompletionBody.model_validate(body), tokenizer)
        if line.url == "/v1/responses":
            return of_response(ResponseBody.model_validate(body), tokenizer, parsers)
        return of_chat(ChatBody.model_validate(body), tokenizer, parsers)
    except ValidationError as error:
        raise RequestError(_words(error)) from error


def _words(error: ValidationError) -> str:
    return sentence_of(telling(error.errors()))


def response_line(job: Job, outputs: Items[RequestOutput]) -> Json:
    """What a job's prompts gave, in their order; an error where the disk lost one of them."""
    try:
        for output in outputs:
            output.check_complete()
    except StorageError as error:
        return refusal_line(job.custom_id, error)
    question = job.question
    choices = map(question.reader(), _choices(outputs, question.params.n))
    return _line(job.custom_id, OK, question.answer.whole(choices))


def refusal_line(custom_id: str, error: LMOffloadError) -> Json:
    """Why there is no answer."""
    status = status_of(error)
    return _line(custom_id, status, error_object(status, str(error)))


def is_done(record: Any) -> bool:
    """Whether a line of an earlier output answers its request."""
    return bool(record["response"].get("status_code") == OK)


def _line(custom_id: str, status: int, body: Json) -> Json:
    number = uuid4().hex
    response = {"status_code": status, "request_id": f"req-{number}", "body": body}
    head = {"id": f"batch_req_{number}", "custom_id": custom_id}
    return {**head, "response": response, "error": None}


def _choices(outputs: Iterable[RequestOutput], n: int) -> Iterator[Choice]:
    for prompt, output in enumerate(outputs):
        for completion in output.outputs:
            delta = Delta(
                output.index,
                completion.index,
                completion.text,
                completion.token_ids,
                completion.logprobs or [],
                completion.finish_reason,
                len(output.prompt_token_ids),
                output.num_cached_tokens,
                prompt_token_ids=output.prompt_token_ids,
            )
            yield Choice(prompt * n + completion.index, prompt, delta, delta.text)
