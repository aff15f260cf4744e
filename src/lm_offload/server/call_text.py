"""Texts that may end with calls of tools, told apart as they grow.

::

    I add. <tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>
    said   kept until the text ends, then read
"""

from __future__ import annotations

from collections.abc import Sequence as Items

from lm_offload.engine.text_stream import held_back
from lm_offload.server.tool_calls import (
    CallForm,
    Reading,
    Schemas,
    first_mark,
    marks_of,
    may_be_call,
    read_calls,
)


class CallText:
    """One text, all of which is one call where it `must` be.

    What was given as content is not looked at again, so a long text costs no more for each piece.
    """

    def __init__(self, schemas: Schemas, forms: Items[CallForm], must: bool) -> None:
        self._schemas = schemas
        self._forms = forms
        self._marks = marks_of(forms)
        self._kept: list[str] = []  # not given out yet
        self._take = self._keep if must else self._first

    def add(self, piece: str, finished: bool) -> Reading:
        """The content that the next piece makes certain; the last one gives what is left."""
        content = self._take(piece)
        if not finished:
            return Reading(content)
        rest = read_calls("".join(self._kept), self._schemas, self._forms)
        return Reading(content + rest.content, rest.calls)

    def _first(self, piece: str) -> str:
        """Where calls may begin without a mark."""
        self._kept.append(piece)
        text = "".join(self._kept)
        begun = text.lstrip()
        if not begun:
            return ""
        if may_be_call(begun, self._schemas, self._forms):
            if len(begun) > self._longest_beginning:  # what follows changes it no more
                self._take = self._keep
            return ""
        self._kept, self._take = [], self._say
        return self._say(text)

    def _say(self, piece: str) -> str:
        """Behind content, calls begin with a mark; blanks before it belong to neither."""
        text = "".join(self._kept) + piece
        mark = first_mark(text, self._marks)
        stop = len(text) - held_back(text, self._marks) if mark is None else mark
        said = text[:stop].rstrip()
        self._kept = [text[len(said) :]]
        if mark is not None:
            self._take = self._keep
        return said

    def _keep(self, piece: str) -> str:
        self._kept.append(piece)
        return ""

    @property
    def _longest_beginning(self) -> int:
        """Of calls without a mark at their beginning, which have a name and then another mark."""
        return max(map(len, self._schemas), default=0) + max(map(len, self._marks), default=0)
