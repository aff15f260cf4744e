"""The channels of gpt-oss (OpenAI's harmony format): messages, each with a header.

::

    <|channel|>analysis<|message|>...<|end|>                                    reasoning
    <|start|>assistant<|channel|>commentary<|message|>...<|end|>                said before a call
    <|start|>assistant<|channel|>commentary to=functions.add <|constrain|>json<|message|>{...}
    <|start|>assistant<|channel|>final<|message|>...                            the answer

Prompts end with `<|start|>assistant`, so the first header begins after it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from lm_offload.engine.text_parts import Parts
from lm_offload.engine.text_stream import held_back

START, CHANNEL, MESSAGE = "<|start|>", "<|channel|>", "<|message|>"
ENDS = ("<|end|>", "<|call|>", "<|return|>")
MARKS = (START, CHANNEL, MESSAGE, *ENDS)
CALL = f"{CHANNEL}commentary to=functions."  # begins a call within content, in this form alone
RECIPIENT, FUNCTIONS = "to=", "functions."  # the first may begin the first header
_BODY_END = re.compile(r"<\|(?:start|channel|end|call|return)\|>")
_TO = r"(?: {0,2}to=[^\s<]*)?"
_CUT_HEADER = re.compile(
    rf"\s*(?:<\|start\|>\w*)?{_TO}(?:<\|channel\|>\w*)?{_TO} ?(?:<\|constrain\|>\w*)?"
)


@dataclass(frozen=True)
class _Message:
    header: str
    body: str

    @property
    def recipient(self) -> str:
        """Whom it calls, if anybody."""
        found = re.search(r"to=([^\s<]+)", self.header)
        return found[1] if found else ""

    @property
    def is_call(self) -> bool:
        """Whether it calls a function of the request."""
        return self.recipient.startswith(FUNCTIONS)

    @property
    def is_reasoning(self) -> bool:
        """Also what is meant for tools that are built in elsewhere, a browser for example."""
        return not self.is_call and bool(f"{CHANNEL}analysis" in self.header or self.recipient)

    @property
    def content(self) -> str:
        """What it says; a call keeps what it is found by."""
        name = self.recipient.removeprefix(FUNCTIONS)
        return f"{CALL}{name}{MESSAGE}{self.body}" if self.is_call else self.body


def channel_parts(text: str, finished: bool) -> Parts:
    """What is certain of a text in channels; calls of functions stay in the content."""
    messages = [*_messages(text, finished)]
    reasoning = (it.body for it in messages if it.is_reasoning)
    content = (it.content for it in messages if not it.is_reasoning)
    return Parts("\n".join(filter(None, reasoning)), "\n".join(filter(None, content)))


def _messages(text: str, finished: bool) -> Iterator[_Message]:
    """Those whose header is complete; what looks like one and is none is said by the model."""
    rest = text if finished else text[: len(text) - held_back(text, MARKS)]
    is_first = True
    while rest.strip() or (is_first and rest):
        header, mark = "", MESSAGE
        if _begins_header(rest, is_first, finished):
            header, mark, rest = rest.partition(MESSAGE)
        if not mark:
            if finished and not _is_cut(header):
                yield _Message("", header)
            return
        body, rest = _body(rest)
        yield _Message(header, body)
        is_first = False


def _is_cut(header: str) -> bool:
    """Whether this is a header as far as it goes."""
    return header.lstrip().startswith((START, CHANNEL)) and bool(_CUT_HEADER.fullmatch(header))


def _begins_header(rest: str, is_first: bool, finished: bool) -> bool:
    begun = rest.lstrip()
    if begun.startswith((START, CHANNEL)):
        return True
    may_grow = not finished and RECIPIENT.startswith(begun)
    return is_first and (may_grow or begun.startswith(RECIPIENT))


def _body(text: str) -> tuple[str, str]:
    """The text up to what ends a message, and what follows that."""
    found = _BODY_END.search(text)
    if found is None:
        return text, ""
    is_end = found[0] in ENDS
    return text[: found.start()], text[found.end() if is_end else found.start() :]
