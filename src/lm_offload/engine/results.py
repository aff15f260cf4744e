"""From finished sequences to what the caller gets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Sequence as Items
from functools import partial

from lm_offload.engine.completion import CompletionOutput
from lm_offload.engine.outputs import RequestOutput
from lm_offload.engine.prompt_forms import PlainPrompt
from lm_offload.engine.request_text import RequestText
from lm_offload.engine.tokenizer import Tokenizer
from lm_offload.errors import StorageError
from lm_offload.sequence import Sequence


class RequestGather:
    """Keeps finished sequences until all `n` of their request are there."""

    def __init__(self, count: int) -> None:
        self.left = count  # requests that are not complete yet
        self._waiting: dict[int, list[Sequence]] = {}

    def add(self, finished: Items[Sequence]) -> Iterator[list[Sequence]]:
        """The requests that these sequences complete, their sequences in order."""
        for sequence in finished:
            group = self._waiting.setdefault(sequence.request, [])
            group.append(sequence)
            if len(group) == sequence.params.n:
                self.left -= 1
                yield sorted(self._waiting.pop(sequence.request), key=lambda one: one.index)


def request_output(
    sequences: Items[Sequence],
    prompt: PlainPrompt,
    tokenizer: Callable[[], Tokenizer],
    first_id: int,
) -> RequestOutput:
    """The output of one request of a call whose first one has this id.

    Text is decoded, and the tokenizer loaded, only when it is asked for.
    """
    first = sequences[0]
    words = RequestText(tokenizer, first.params)
    firsts_s = [one.first_token_s for one in sequences if one.first_token_s is not None]
    return RequestOutput(
        request_id=str(first_id + first.request),
        index=first.request,
        prompt=prompt if isinstance(prompt, str) else None,
        prompt_token_ids=list(first.prompt),
        outputs=tuple(_completion(i, sequence, words) for i, sequence in enumerate(sequences)),
        prompt_scores=(first.prompt_logprobs if first.params.prompt_logprobs is not None else None),
        with_texts=words.with_texts,
        ttft_s=min(firsts_s) - first.arrival_s,
        num_cached_tokens=first.num_cached,
    )


def check_finished(sequences: Items[Sequence]) -> None:
    """Raise StorageError for one that the disk has lost."""
    for sequence in sequences:
        if sequence.error is not None:
            raise StorageError(sequence.error)


def _completion(index: int, sequence: Sequence, words: RequestText) -> CompletionOutput:
    return CompletionOutput(
        token_ids=sequence.output,
        finish_reason=sequence.finish_reason,
        scores=sequence.logprobs if sequence.params.logprobs is not None else None,
        decode=partial(words.text, ends_with_stop_token=sequence.ends_with_stop_token),
        with_texts=words.with_texts,
        drafted=sequence.drafted,
        accepted=sequence.accepted,
        error=sequence.error,
        index=index,
        stop_reason=words.stop_reason(sequence),
    )
