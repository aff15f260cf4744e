"""The turns of a conversation: questions from standard input, answers to standard output."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

import typer

from lm_offload.cli.answer_display import show_answer, show_content, show_json
from lm_offload.cli.interrupt import Interruption
from lm_offload.cli.progress import RunProgress
from lm_offload.cli.streaming import pieces
from lm_offload.errors import RequestError
from lm_offload.sampling import SamplingParams

if TYPE_CHECKING:
    from lm_offload.engine.llm import LLM
    from lm_offload.engine.text_parts import Parts, PartsReader


EXITS = ("/exit", "/quit")
HELP = (
    "/reset forgets the conversation, /exit or Ctrl-D ends it, Ctrl-C ends an answer, a backslash "
    "at the end of a line goes on with the question in the next one"
)


class Conversation:
    """The messages so far, and how the next answer is made."""

    def __init__(
        self, llm: LLM, params: SamplingParams, progress: RunProgress, system: str | None
    ) -> None:
        self._llm = llm
        self._params = params
        self._progress = progress
        self._opening = [{"role": "system", "content": system}] if system else []
        self._messages = list(self._opening)

    def check_template(self) -> None:
        """Raise RequestError at once where the model has no chat template."""
        self._llm.tokenizer.apply_chat_template([{"role": "user", "content": "Hello"}])

    def reset(self) -> None:
        """Forget all but the system message."""
        self._messages = list(self._opening)

    def ask(self, question: str) -> Iterator[Parts]:
        """The answer piece by piece; what it says is remembered, what it reasoned is not.

        Raises RequestError, and forgets the question, where the context is too short.
        """
        messages = [*self._messages, {"role": "user", "content": question}]
        prompt = self._llm.tokenizer.apply_chat_template(messages)
        self._progress.expect(len(prompt), self._params.most_tokens - 1)
        reader, params = self._reading(prompt)
        said = []
        with closing(pieces(self._llm, prompt, params, self._progress)) as texts:
            for text in interruptible(texts):
                said.append(part := reader.add(text, finished=False))
                yield part
        said.append(last := reader.add("", finished=True))
        yield last
        content = "".join(part.content for part in said)
        self._messages = [*messages, {"role": "assistant", "content": content}]

    def _reading(self, prompt: list[int]) -> tuple[PartsReader, SamplingParams]:
        """How the answer is told apart, and parameters that leave in the text what this takes."""
        from lm_offload.engine.reasoning import hides, marks_of, reader_for, template_way
        from lm_offload.engine.text_parts import AllContent

        tokenizer = self._llm.tokenizer
        way = template_way(tokenizer.chat_template)
        if way is None:
            return AllContent(), self._params
        shown = self._params.clone(skip_special_tokens=False)
        params = shown if hides(tokenizer, marks_of(way)) else self._params
        return reader_for(way, tokenizer, prompt), params


def interruptible(parts: Iterator[str]) -> Iterator[str]:
    """The parts up to a Ctrl-C."""
    with Interruption() as interruption:
        for part in parts:
            yield part
            if interruption.requested:
                return


def converse(conversation: Conversation, as_json: bool, interactive: bool) -> None:
    """Answer line after line until /exit or the end of the input."""
    for question in _questions("> " if interactive and not as_json else ""):
        if question == "/reset":
            conversation.reset()
            continue
        if interactive and question == "/help":
            typer.echo(HELP, err=True)
            continue
        try:
            _answer(conversation, question, as_json)
        except RequestError as error:
            if not interactive:
                raise
            typer.echo(f"error: {error} (/reset forgets the conversation)", err=True)


def _answer(conversation: Conversation, question: str, as_json: bool) -> None:
    show = show_json if as_json else show_answer if sys.stdout.isatty() else show_content
    show(conversation.ask(question))


def _questions(prompt: str) -> Iterator[str]:
    """What is asked, without blanks around it, until /exit or the end of the input."""
    while True:
        try:
            question = _question(prompt).strip()
        except EOFError:
            if prompt:
                typer.echo(err=True)
            return
        if question in EXITS:
            return
        if question:
            yield question


def _question(prompt: str) -> str:
    """One line, and the next ones as long as a line ends with a backslash."""
    lines = [input(prompt)]
    while lines[-1].endswith("\\"):
        lines[-1] = lines[-1][:-1]
        try:
            lines.append(input(". " if prompt else ""))
        except EOFError:
            break
    return "\n".join(lines)
