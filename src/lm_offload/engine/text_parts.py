"""What a model wrote, told apart piece by piece: what it reasoned, and what it says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Parts:
    """What it reasoned and what it says."""

    reasoning: str
    content: str

    def __add__(self, other: Parts) -> Parts:
        return Parts(self.reasoning + other.reasoning, self.content + other.content)


NOTHING = Parts("", "")


class PartsReader(Protocol):
    """Takes one text as it grows."""

    def add(self, piece: str, finished: bool) -> Parts:
        """What the next piece adds to both parts for certain; the last one gives all that is left.

        What was given is not looked at again, so a long text costs no more for each piece.
        """


class AllContent:
    """Of a model that does not reason."""

    def add(self, piece: str, finished: bool) -> Parts:
        """All of it is said."""
        return Parts("", piece)
