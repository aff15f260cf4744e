"""How long the outputs of a run become, learned from those that ended by themselves."""

from __future__ import annotations

import math
from collections.abc import Iterable

from lm_offload.sequence import Sequence


class OutputLengths:
    """An output that may end early is taken to do so with the same chance after each token.

    That chance is ends over tokens, those of unfinished and of cut outputs among them: the maximum
    likelihood for lifetimes of which some are not seen to their end, where the mean of the ended
    ones alone would be too short. Before anything has ended, outputs are taken to be as long as
    they may be.
    """

    def __init__(self) -> None:
        self._tokens = 0
        self._ends = 0
        self._mean: float = math.inf  # tokens that are still to come, at any place

    def observe(self, finished: Iterable[Sequence], running: Iterable[Sequence]) -> None:
        """Learn from outputs that are finished now, beside those that go on."""
        self._tokens += _output_tokens(finished)
        self._ends += sum(_ended_early(sequence) for sequence in finished)
        if self._ends:
            self._mean = (self._tokens + _output_tokens(running)) / self._ends

    def expected_tokens(self, sequence: Sequence) -> int:
        """Prompt and output tokens that a sequence will probably have."""
        if not sequence.may_end_early or math.isinf(self._mean):
            return sequence.max_tokens
        return min(sequence.num_tokens + math.ceil(self._mean), sequence.max_tokens)


def _output_tokens(sequences: Iterable[Sequence]) -> int:
    return sum(len(sequence.output) for sequence in sequences if sequence.may_end_early)


def _ended_early(sequence: Sequence) -> bool:
    return sequence.may_end_early and sequence.finish_reason == "stop"
