"""Turns the deltas of an answer into those that a client gets: content, and calls of tools.

What may become a call is held back, and calls come whole, with the last delta.
"""

from __future__ import annotations

from collections.abc import Sequence as Items
from dataclasses import replace

from lm_offload.server.replies import Choice
from lm_offload.server.tool_bodies import ToolUse
from lm_offload.server.tool_calls import CallForm, Reading, certain_content, read_calls


class ToolReader:
    """Reads one answer; the deltas of a choice come in order."""

    def __init__(self, use: ToolUse, forms: Items[CallForm]) -> None:
        self._use = use
        self._forms = forms
        self._texts: dict[int, str] = {}  # of each choice so far
        self._given: dict[int, int] = {}  # characters of it

    def __call__(self, choice: Choice) -> Choice:
        """The same delta with the content that is certain, and at its end with calls."""
        index = choice.index
        text = self._texts[index] = self._texts.get(index, "") + choice.text
        given = self._given.get(index, 0)
        is_last = choice.delta.finish_reason is not None
        found = self._read(text) if is_last else Reading(text[: self._certain(text)])
        self._given[index] = max(given, len(found.content))
        return replace(choice, text=found.content[given:], calls=found.calls)

    def _read(self, text: str) -> Reading:
        return read_calls(text, self._use.schemas, self._forms)

    def _certain(self, text: str) -> int:
        return 0 if self._use.must else certain_content(text, self._use.schemas, self._forms)
