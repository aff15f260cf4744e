"""Text as it grows token by token, and where stop strings end it."""

from __future__ import annotations

from collections.abc import Sequence

from lm_offload.engine.tokenizer import Tokenizer


class TextStream:
    """Decodes tokens as they come; holds back what may still change.

    A character can span several tokens, and the end of the text may be the beginning of a stop
    string: neither is shown before it is certain.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._stop = stop
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
        held = 0 if finished else _held_back(self.text, self._stop)
        shown, self._shown = self._shown, max(self._shown, len(self.text) - held)
        return self.text[shown : self._shown]

    def _pending(self) -> str:
        """What the tokens that are not in `text` yet add to it."""
        before = self._tokenizer.decode(self._token_ids[self._window : self._decoded])
        return self._tokenizer.decode(self._token_ids[self._window :])[len(before) :]

    def _append(self, piece: str) -> bool:
        """Take `piece` as certain; True if the text now ends with a stop string."""
        self._window, self._decoded = self._decoded, len(self._token_ids)
        whole = self.text + piece
        self.text = cut_at_stop(whole, self._stop)
        return len(self.text) < len(whole)


def cut_at_stop(text: str, stop: Sequence[str]) -> str:
    """`text` up to the first stop string."""
    word = first_stop(text, stop)
    return text if word is None else text[: text.find(word)]


def first_stop(text: str, stop: Sequence[str]) -> str | None:
    """The stop string that comes first in `text`, the longest of those that begin there."""
    places = [(text.find(word), -len(word), word) for word in stop if word in text]
    return min(places)[2] if places else None


def _held_back(text: str, stop: Sequence[str]) -> int:
    """Characters at the end of `text` that may be the beginning of a stop string."""
    lengths = [size for word in stop for size in range(1, len(word)) if text.endswith(word[:size])]
    return max(lengths, default=0)
