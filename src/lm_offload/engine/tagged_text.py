"""Texts that begin with reasoning between tags, told apart as they grow.

::

    <think>Two and two.</think>It is 4.
    Two and two.</think>It is 4.            after a prompt that ends with the first tag
"""

from __future__ import annotations

from lm_offload.engine.text_parts import NOTHING, Parts
from lm_offload.engine.text_stream import held_back
from lm_offload.sampling.reasoning_ways import CLOSE, OPEN


class TaggedText:
    """One text, which may begin `within` the tags. Blanks beside them belong to neither part."""

    def __init__(self, within: bool) -> None:
        self._within = within
        self._held = ""  # may be a tag, or blanks before one
        self._has_reasoned = False
        self._read = self._first

    def add(self, piece: str, finished: bool) -> Parts:
        """What the next piece adds to both parts for certain; the last one gives all."""
        text, self._held = self._held + piece, ""
        return self._read(text, finished)

    def _first(self, text: str, finished: bool) -> Parts:
        """Where the first tag may stand."""
        begun = text.lstrip()
        if not finished and OPEN.startswith(begun):
            self._held = text
            return NOTHING
        if not (self._within or begun.startswith(OPEN)):
            self._read = _said
            return _said(text, finished)
        self._read = self._inside
        return self._inside(begun.removeprefix(OPEN), finished)

    def _inside(self, text: str, finished: bool) -> Parts:
        reasoned, close, rest = text.partition(CLOSE)
        if close:
            self._read = self._behind
            return Parts(self._trimmed(reasoned), "") + self._behind(rest, finished)
        held = 0 if finished else held_back(text, (CLOSE,))
        reasoned = text[: len(text) - held].rstrip()
        self._held = text[len(reasoned) :]
        return Parts(self._trimmed(reasoned), "")

    def _trimmed(self, reasoned: str) -> str:
        """Without blanks at its end, and at the beginning of all."""
        kept = reasoned.rstrip() if self._has_reasoned else reasoned.strip()
        self._has_reasoned |= bool(kept)
        return kept

    def _behind(self, text: str, finished: bool) -> Parts:
        """Until something is said."""
        begun = text.lstrip()
        if begun:
            self._read = _said
        return Parts("", begun)


def _said(text: str, finished: bool) -> Parts:
    return Parts("", text)
