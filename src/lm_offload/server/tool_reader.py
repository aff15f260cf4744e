"""Turns the deltas of an answer into those that a client gets: content, and calls of tools.

What may become a call is held back, and calls come whole, with the last delta.
"""

from __future__ import annotations

from collections.abc import Sequence as Items
from dataclasses import replace

from lm_offload.server.call_text import CallText
from lm_offload.server.replies import Choice
from lm_offload.server.tool_bodies import ToolUse
from lm_offload.server.tool_calls import CallForm


class ToolReader:
    """Reads one answer; the deltas of a choice come in order."""

    def __init__(self, use: ToolUse, forms: Items[CallForm]) -> None:
        self._use = use
        self._forms = forms
        self._texts: dict[int, CallText] = {}  # of each choice

    def __call__(self, choice: Choice) -> Choice:
        """The same delta with the content that is certain, and at its end with calls."""
        if choice.index not in self._texts:
            schemas, must = self._use.schemas, self._use.must
            self._texts[choice.index] = CallText(schemas, self._forms, must)
        is_last = choice.delta.finish_reason is not None
        found = self._texts[choice.index].add(choice.text, is_last)
        return replace(choice, text=found.content, calls=found.calls)
