"""From finished sequences to what the caller gets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Sequence as Items

from lm_offload.engine.outputs import CompletionOutput, RequestOutput
from lm_offload.engine.prompt_forms import PlainPrompt
from lm_offload.engine.text_stream import cut_at_stop, first_stop
from lm_offload.errors import StorageError
from lm_offload.sequence import Sequence

Decode = Callable[[Items[int]], str]


class RequestGather:
    """Keeps finished sequences until all `n` of their request are there."""

    def __init__(self) -> None:
        self._waiting: dict[int, list[Sequence]] = {}

    def add(self, finished: Items[Sequence]) -> Iterator[list[Sequence]]:
        """The requests that these sequences complete, their sequences in order."""
        for sequence in finished:
            group = self._waiting.setdefault(sequence.request, [])
            group.append(sequence)
            if len(group) == sequence.params.n:
                yield sorted(self._waiting.pop(sequence.request), key=lambda one: one.index)


def request_output(
    sequences: Items[Sequence], prompt: PlainPrompt, decode: Decode
) -> RequestOutput:
    """The output of one request; text is decoded only when it is asked for."""
    first = sequences[0]
    firsts_s = [one.first_token_s for one in sequences if one.first_token_s is not None]
    return RequestOutput(
        index=first.request,
        prompt=prompt if isinstance(prompt, str) else None,
        prompt_token_ids=list(first.prompt),
        outputs=tuple(_completion(i, sequence, decode) for i, sequence in enumerate(sequences)),
        prompt_logprobs=(
            first.prompt_logprobs if first.params.prompt_logprobs is not None else None
        ),
        ttft_s=min(firsts_s) - first.arrival_s,
        num_cached_tokens=first.num_cached,
    )


def check_finished(sequences: Items[Sequence]) -> None:
    """Raise StorageError for one that the disk has lost."""
    for sequence in sequences:
        if sequence.error is not None:
            raise StorageError(sequence.error)


def _completion(index: int, sequence: Sequence, decode: Decode) -> CompletionOutput:
    params, hides_last = sequence.params, sequence.ends_with_stop_token

    def text_of(token_ids: list[int]) -> str:
        shown = token_ids[:-1] if hides_last else token_ids
        return cut_at_stop(decode(shown), params.stop)

    return CompletionOutput(
        token_ids=sequence.output,
        finish_reason=sequence.finish_reason,
        logprobs=sequence.logprobs if params.logprobs is not None else None,
        decode=text_of,
        drafted=sequence.drafted,
        accepted=sequence.accepted,
        error=sequence.error,
        index=index,
        stop_reason=_stop_reason(sequence, decode),
    )


def _stop_reason(sequence: Sequence, decode: Decode) -> int | str | None:
    """What of the request's stop strings and tokens ended it."""
    if sequence.finish_reason != "stop":
        return None
    if sequence.ends_with_stop_token:
        last = sequence.output[-1]
        return last if last in sequence.params.stop_token_ids else None
    return first_stop(decode(sequence.output), sequence.params.stop)
