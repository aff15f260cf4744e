"""One completion of a prompt, whose texts are decoded when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Sequence as Items
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from lm_offload.errors import CheckpointError
from lm_offload.sampling.logprobs import Logprob
from lm_offload.sequence import FinishReason

Scores = list[dict[int, Logprob]]
WithTexts = Callable[[Items[Mapping[int, Logprob]]], Scores]


@dataclass(frozen=True)
class CompletionOutput:
    """The generated part; its text, and those of its `logprobs`, are decoded when asked for."""

    token_ids: list[int]
    finish_reason: FinishReason
    scores: Scores | None = field(repr=False)  # `logprobs` without texts
    decode: Callable[[list[int]], str] = field(repr=False, compare=False)
    with_texts: WithTexts = field(repr=False, compare=False)
    drafted: int = field(default=0, compare=False)  # tokens that were guessed and verified
    accepted: int = field(default=0, compare=False)  # of these, tokens that were kept
    error: str | None = None  # why it ended with finish_reason "error"
    index: int = field(default=0, compare=False)  # among the completions of the prompt
    # The stop string or token of the request that ended it; none where the model ended it itself.
    stop_reason: int | str | None = None

    @cached_property
    def text(self) -> str:
        """The generated text, up to a stop string if one was reached."""
        return self.decode(self.token_ids)

    @cached_property
    def logprobs(self) -> Scores | None:
        """Of each token and of as many likely ones as were asked for, by token id."""
        return None if self.scores is None else self.with_texts(self.scores)

    @property
    def cumulative_logprob(self) -> float | None:
        """Sum of the log probabilities of the tokens; none where `logprobs` were not asked for."""
        if self.scores is None:
            return None
        places = zip(self.scores, self.token_ids, strict=True)
        return sum(place[token].logprob for place, token in places)

    def __getstate__(self) -> dict[str, Any]:
        """For other processes: with the texts, where there is a tokenizer, in its place."""
        state = {**vars(self), "decode": _no_tokenizer, "with_texts": list}
        state["logprobs"] = self.logprobs
        with suppress(CheckpointError):
            state["text"] = self.text
        return state


def _no_tokenizer(token_ids: list[int]) -> str:
    raise CheckpointError(
        "This output has no text, since it came from a process that found no tokenizer; decode its "
        "token_ids."
    )
