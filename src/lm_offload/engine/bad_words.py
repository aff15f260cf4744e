"""The tokens of words that a request does not want, as vLLM takes them."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Items

from lm_offload.errors import RequestError

Encode = Callable[[str], list[int]]  # token ids of a text within another


def word_tokens(words: Items[str], encode: Encode) -> list[list[int]]:
    """The tokens of each word, and those after a space where they are as many and begin otherwise.

    Raises RequestError for a word without tokens.
    """
    found = []
    for word in words:
        begun, within = encode(word.lstrip()), encode(f" {word.lstrip()}")
        if not begun:
            raise RequestError(f"bad_words has {word!r}, which has no tokens; leave it out.")
        found.append(begun)
        if len(within) == len(begun) and within[0] != begun[0]:
            found.append(within)
    return found
