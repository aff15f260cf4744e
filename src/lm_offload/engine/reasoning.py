"""Tells reasoning from what is said, in the way that a model writes it."""

from __future__ import annotations

from collections.abc import Sequence as Items

from lm_offload.engine.channels import CHANNEL, MARKS, ChannelText
from lm_offload.engine.tagged_text import TaggedText
from lm_offload.engine.text_parts import PartsReader
from lm_offload.engine.tokenizer import Tokenizer
from lm_offload.sampling.reasoning_ways import CHANNELS, CLOSE, END_TOKENS, OPEN, begins_within

TAGGED = "qwen3"


def template_way(template: str) -> str | None:
    """The way that a chat template knows of; None where it knows of no reasoning.

    Where a text with tags begins follows from the prompt, so all who have them are one way.
    """
    if CHANNEL in template:
        return CHANNELS
    return TAGGED if CLOSE in template else None


def marks_of(way: str) -> tuple[str, ...]:
    """What a text must show so that it can be told apart."""
    return MARKS if way == CHANNELS else (OPEN, CLOSE)


def reader_for(way: str, tokenizer: Tokenizer, prompt: Items[int]) -> PartsReader:
    """What tells a text after this prompt apart, where the model writes it in this way."""
    if way == CHANNELS:
        return ChannelText()
    prompt_end = tokenizer.decode_all(list(prompt[-END_TOKENS:]))
    return TaggedText(begins_within(way, prompt_end))


def hides(tokenizer: Tokenizer, marks: Items[str]) -> bool:
    """Whether one of these is a special token, so that texts without such tokens lack it."""
    return any(_is_special(tokenizer, tokenizer.encode_words(mark)) for mark in marks)


def _is_special(tokenizer: Tokenizer, token_ids: list[int]) -> bool:
    return len(token_ids) == 1 and not tokenizer.decode(token_ids)
