"""Text as it grows token by token, and where stop strings end it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class Decoder(Protocol):
    """What makes text of tokens."""

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of token ids, which begins with that of any first ones of them."""


class TextStream:
    """Decodes tokens as they come; holds back what may still change.

    A character can span several tokens, and the end of the text may be the beginning of a stop
    string: neither is shown before it is certain. What the first `min_tokens` spell ends no text,
    though a stop string may begin there; one that is `included` stays in the text.
    """

    def __init__(
        self,
        tokenizer: Decoder,
        stop: Sequence[str],
        min_tokens: int = 0,
        included: bool = False,
    ) -> None:
        self._tokenizer = tokenizer
        self._stop = stop
        self._min_tokens = min_tokens
        self._included = included
        self._token_ids: list[int] = []
        self._window = 0  # tokens before this no longer influence what follows
        self._decoded = 0  # tokens whose text is in `text`
        self._shown = 0  # characters given out
        self.text = ""

    def add(self, token_id: int) -> bool:
        """Decode one more token; True if the text now ends with a stop string."""
        self._token_ids.append(token_id)
        pending = self._pending()
        if not pending or pending.endswith("\N{REPLACEMENT CHARACTER}"):
            return False
        return self._append(pending)

    def take(self, finished: bool) -> str:
        """The characters that became certain since the last call; the rest if `finished`."""
        if finished:
            self._append(self._pending())
        held = 0 if finished or self._included else held_back(self.text, self._stop)
        shown, self._shown = self._shown, max(self._shown, len(self.text) - held)
        return self.text[shown : self._shown]

    def _pending(self) -> str:
        """What the tokens that are not in `text` yet add to it."""
        before = self._tokenizer.decode(self._token_ids[self._window : self._decoded])
        return self._tokenizer.decode(self._token_ids[self._window :])[len(before) :]

    def _append(self, piece: str) -> bool:
        """Take `piece` as certain; True if the text now ends with a stop string."""
        self._window, self._decoded = self._decoded, len(self._token_ids)
        known, self.text = len(self.text), self.text + piece
        if len(self._token_ids) <= self._min_tokens:
            return False
        if (found := first_stop(self.text, self._stop, known)) is None:
            return False
        self.text = found.cut(self.text, self._included)
        return True


@dataclass(frozen=True)
class FoundStop:
    """A stop string in a text, and where it begins."""

    word: str
    place: int

    def cut(self, text: str, included: bool) -> str:
        """The text up to it, or to its end."""
        return text[: self.place + len(self.word) * included]


def first_stop(text: str, stop: Sequence[str], known: int = 0) -> FoundStop | None:
    """The stop string that comes first, the longest of those that begin there.

    One that ends within the first `known` characters does not count.
    """
    found = ((text.find(word, max(known + 1 - len(word), 0)), word) for word in stop)
    places = [(place, -len(word), word) for place, word in found if place >= 0]
    return FoundStop(min(places)[2], min(places)[0]) if places else None


def cut_at_stop(text: str, stop: Sequence[str], known: int = 0, included: bool = False) -> str:
    """`text` up to the first stop string, or to its end."""
    found = first_stop(text, stop, known)
    return text if found is None else found.cut(text, included)


def held_back(text: str, stop: Sequence[str]) -> int:
    """Characters at the end of `text` that may be the beginning of a stop string."""
    lengths = [size for word in stop for size in range(1, len(word)) if text.endswith(word[:size])]
    return max(lengths, default=0)
