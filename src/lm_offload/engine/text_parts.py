"""What a model wrote, told apart: whole texts, and texts as they grow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Parts:
    """What it reasoned and what it says."""

    reasoning: str
    content: str


NOTHING = Parts("", "")
Split = Callable[[str, bool], Parts]  # what is certain of a text so far, and if it is finished


def all_content(text: str, finished: bool) -> Parts:
    """Of a model that does not reason."""
    return Parts("", text)


@dataclass
class GrowingParts:
    """Takes a text piece by piece, and gives of both parts what is new and certain."""

    split: Split
    text: str = ""
    given: Parts = NOTHING

    def add(self, piece: str, finished: bool) -> Parts:
        """What the next piece adds to both parts; the last one gives all that is left."""
        self.text += piece
        before, self.given = self.given, self.split(self.text, finished)
        now = self.given
        return Parts(now.reasoning[len(before.reasoning) :], now.content[len(before.content) :])
