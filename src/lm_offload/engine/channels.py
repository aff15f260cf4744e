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
from dataclasses import dataclass

from lm_offload.engine.text_parts import NOTHING, Parts
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
class _Header:
    """What a message is, by the text before it."""

    text: str

    @property
    def recipient(self) -> str:
        """Whom it calls, if anybody."""
        found = re.search(r"to=([^\s<]+)", self.text)
        return found[1] if found else ""

    @property
    def is_call(self) -> bool:
        """Whether it calls a function of the request."""
        return self.recipient.startswith(FUNCTIONS)

    @property
    def is_reasoning(self) -> bool:
        """Also what is meant for tools that are built in elsewhere, a browser for example."""
        return not self.is_call and bool(f"{CHANNEL}analysis" in self.text or self.recipient)

    @property
    def kept(self) -> str:
        """What a call is found by."""
        name = self.recipient.removeprefix(FUNCTIONS)
        return f"{CALL}{name}{MESSAGE}" if self.is_call else ""


class _Lines:
    """What messages add to one part, each on lines of its own."""

    def __init__(self) -> None:
        self._has_any = False
        self._before = ""

    def begin(self) -> None:
        """Another message."""
        self._before = "\n" * self._has_any

    def add(self, text: str) -> str:
        """What a piece of it adds."""
        if not text:
            return ""
        added, self._before, self._has_any = self._before + text, "", True
        return added


class ChannelText:
    """A text in channels as it grows; calls of functions stay in the content."""

    def __init__(self) -> None:
        self._rest = ""  # has not been given
        self._header: _Header | None = None  # of the message that the rest goes on with
        self._is_first = True  # no message has begun
        self._reasoning, self._content = _Lines(), _Lines()

    def add(self, piece: str, finished: bool) -> Parts:
        """What the next piece adds to both parts for certain; the last one gives all."""
        text = self._rest + piece
        stop = len(text) - (0 if finished else held_back(text, MARKS))
        given, self._rest = self._read(text[:stop], finished)
        self._rest += text[stop:]
        return given

    def _read(self, text: str, finished: bool) -> tuple[Parts, str]:
        """What is certain of a text, and what of it waits for more."""
        given = NOTHING
        while text.strip() or (text and (self._is_first or self._header)):
            if self._header is None:
                header, text = _next_header(text, self._is_first, finished)
                if header is None:
                    return given + self._said(text, finished), text
                given += self._begin(header)
            body, text, ends = _body(text)
            given += self._added(body)
            self._header = None if ends else self._header
        return given, text

    def _said(self, text: str, finished: bool) -> Parts:
        """What looks like a header and is none is said by the model."""
        if not finished or _is_cut(text):
            return NOTHING
        return self._begin(_Header("")) + self._added(text)

    def _begin(self, header: _Header) -> Parts:
        self._header, self._is_first = header, False
        (self._reasoning if header.is_reasoning else self._content).begin()
        return self._added(header.kept)

    def _added(self, text: str) -> Parts:
        """What a piece of the message adds."""
        if self._header is not None and self._header.is_reasoning:
            return Parts(self._reasoning.add(text), "")
        return Parts("", self._content.add(text))


def _next_header(text: str, is_first: bool, finished: bool) -> tuple[_Header | None, str]:
    """That of the next message, none as long as it is not complete, and the text behind it."""
    if not _begins_header(text, is_first, finished):
        return _Header(""), text
    header, mark, rest = text.partition(MESSAGE)
    return (_Header(header), rest) if mark else (None, text)


def _is_cut(header: str) -> bool:
    """Whether this is a header as far as it goes."""
    return header.lstrip().startswith((START, CHANNEL)) and bool(_CUT_HEADER.fullmatch(header))


def _begins_header(rest: str, is_first: bool, finished: bool) -> bool:
    begun = rest.lstrip()
    if begun.startswith((START, CHANNEL)):
        return True
    may_grow = not finished and RECIPIENT.startswith(begun)
    return is_first and (may_grow or begun.startswith(RECIPIENT))


def _body(text: str) -> tuple[str, str, bool]:
    """The text up to what ends a message, what follows that, and whether anything does end it."""
    found = _BODY_END.search(text)
    if found is None:
        return text, "", False
    is_end = found[0] in ENDS
    return text[: found.start()], text[found.end() if is_end else found.start() :], True
