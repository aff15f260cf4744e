"""Turns the deltas of an answer into such as have reasoning and content apart."""

from __future__ import annotations

from dataclasses import replace

from lm_offload.engine.reasoning import reader_for
from lm_offload.engine.text_parts import PartsReader
from lm_offload.engine.tokenizer import Tokenizer
from lm_offload.server.replies import Choice


class ReasoningReader:
    """Reads one answer in the way that its model reasons; the deltas of a choice come in order."""

    def __init__(self, way: str, tokenizer: Tokenizer) -> None:
        self._way = way
        self._tokenizer = tokenizer
        self._texts: dict[int, PartsReader] = {}

    def __call__(self, choice: Choice) -> Choice:
        """The same delta with what is certain of both."""
        delta = choice.delta
        if choice.index not in self._texts:
            prompt = delta.prompt_token_ids
            self._texts[choice.index] = reader_for(self._way, self._tokenizer, prompt)
        is_last = delta.finish_reason is not None
        parts = self._texts[choice.index].add(choice.text, is_last)
        return replace(choice, text=parts.content, reasoning=parts.reasoning)
