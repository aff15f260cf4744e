"""From the tokens of a request to its text, as its parameters want it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Sequence as Items
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain

from lm_offload.engine.text_stream import TextStream, cut_at_stop, first_stop
from lm_offload.engine.tokenizer import Tokenizer
from lm_offload.errors import CheckpointError
from lm_offload.sampling import SamplingParams
from lm_offload.sampling.logprobs import Logprob
from lm_offload.sequence import Sequence

Scores = Mapping[int, Logprob]  # in one place of the text, by token id
UNFINISHED_CHARACTER = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class RequestText:
    """Decodes the tokens of requests with these parameters; loads the tokenizer at first use."""

    tokenizer: Callable[[], Tokenizer]
    params: SamplingParams

    def decode(self, token_ids: Items[int]) -> str:
        """Text of token ids, with special tokens where they are wanted."""
        tokenizer = self.tokenizer()
        shows_all = not self.params.skip_special_tokens
        return tokenizer.decode_all(token_ids) if shows_all else tokenizer.decode(token_ids)

    def stream(self) -> TextStream:
        """The text as it grows."""
        params = self.params
        return TextStream(self, params.stop, params.min_tokens, params.include_stop_str_in_output)

    def text(self, token_ids: Items[int], ends_with_stop_token: bool) -> str:
        """The text of all tokens, up to what ended it."""
        included = self.params.include_stop_str_in_output
        shown = token_ids[:-1] if ends_with_stop_token and not included else token_ids
        known = self._num_free(token_ids)
        return cut_at_stop(self.decode(shown), self.params.stop, known, included)

    def stop_reason(self, sequence: Sequence) -> int | str | None:
        """What of the request's stop strings and tokens ended it."""
        if sequence.finish_reason != "stop":
            return None
        if sequence.ends_with_stop_token:
            last = sequence.output[-1]
            return last if last in self.params.stop_token_ids else None
        text, known = self.decode(sequence.output), self._num_free(sequence.output)
        found = first_stop(text, self.params.stop, known)
        return found.word if found else None

    def with_texts(self, scores: Items[Scores]) -> list[dict[int, Logprob]]:
        """The same log probabilities with the texts of their tokens, if there is a tokenizer."""
        texts: dict[int, str] = {}
        with suppress(CheckpointError):
            decode = self.tokenizer().decode_all
            texts = {token: decode([token]) for token in {*chain.from_iterable(scores)}}
        return [
            {token: replace(it, decoded_token=texts.get(token)) for token, it in place.items()}
            for place in scores
        ]

    def _num_free(self, token_ids: Items[int]) -> int:
        """Characters of the first `min_tokens`, where no stop string ends the text."""
        if not (self.params.stop and self.params.min_tokens):
            return 0
        begun = self.decode(token_ids[: self.params.min_tokens])
        return len(begun.rstrip(UNFINISHED_CHARACTER))


def next_piece(stream: TextStream, sequence: Sequence) -> str:
    """What became certain of the text; a stop token is part of it where that is wanted."""
    if sequence.ends_with_stop_token and sequence.params.include_stop_str_in_output:
        stream.add(sequence.output[-1])
    return stream.take(finished=sequence.finish_reason is not None)
