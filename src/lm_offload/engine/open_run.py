"""A run that requests join and leave while it goes on, as those of a server do.

::

    sweep        |  0  |  1  |  2  |  3  |  4  |  5  |
    request a    | prefill  a0    a1    a2 |               ended
    request b          | prefill  b0    b1    b2    b3     joined before sweep 1
    request c                     | prefill  x             left before sweep 4
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Items
from dataclasses import dataclass, replace

from lm_offload.arch.config import ModelConfig
from lm_offload.engine.engine import Engine
from lm_offload.engine.outputs import SweepRecord
from lm_offload.engine.prefixes import save_prefixes, share_prefixes
from lm_offload.engine.prompt_forms import PlainPrompt
from lm_offload.engine.request_text import RequestText, next_piece
from lm_offload.engine.requests import make_sequences
from lm_offload.engine.text_stream import TextStream
from lm_offload.engine.tokenizer import Tokenizer
from lm_offload.errors import RequestError
from lm_offload.sampling import SamplingParams
from lm_offload.sampling.grammars import Grammars
from lm_offload.sampling.logprobs import Logprob
from lm_offload.sequence import FinishReason, Sequence

SAVED_AT_ONCE = 64  # finished requests whose prompts are kept for other processes


@dataclass(frozen=True)
class Delta:
    """What a sweep gave to one completion of a request; text that may still change is held back."""

    request: int  # as `add` numbered it
    completion: int  # among the `n` of the request
    text: str
    token_ids: list[int]
    logprobs: list[dict[int, Logprob]]  # of each token, where they were asked for
    finish_reason: FinishReason
    num_prompt_tokens: int
    num_cached_tokens: int  # of the prompt: not computed, since another prompt began alike
    error: str | None = None  # why it ended with finish_reason "error"
    prompt_token_ids: Items[int] = ()


@dataclass
class _Completion:
    """A sequence, its text, and how much of its output has been given out."""

    sequence: Sequence
    index: int  # among those of its request
    stream: TextStream
    given: int = 0


class OpenRun:
    """Sequences in an engine that stays; for the one thread that has the model's turn.

    A sequence may take `context_len` tokens, prompt and output together.
    """

    def __init__(
        self,
        engine: Engine,
        config: ModelConfig,
        tokenizer: Callable[[], Tokenizer],
        grammars: Callable[[], Grammars],
        context_len: int,
        shares_prefixes: bool,
    ) -> None:
        self.sweep: SweepRecord | None = None  # the last one
        self.streams: dict[int, TextStream] = {}  # of unfinished sequences, by their index
        self._engine = engine
        self._config = config
        self._tokenizer = tokenizer
        self._grammars = grammars
        self._context_len = min(context_len, config.max_positions)
        self._shares_prefixes = shares_prefixes
        self._completions: dict[int, _Completion] = {}  # by the index of their sequences
        self._finished: list[Sequence] = []
        self._num_sequences = 0
        self._num_requests = 0

    @property
    def has_work(self) -> bool:
        """Whether a request is unfinished."""
        return self._engine.has_work

    @property
    def is_worn(self) -> bool:
        """Whether the disk lost something of it: when its requests are done, open another one."""
        return self._engine.machinery.scheduler.losses.has_any and not self.has_work

    def add(self, prompt: PlainPrompt, params: SamplingParams) -> int:
        """Take a request into the next sweeps; returns its number.

        Without `max_tokens` its output may fill the context. Raises RequestError for what cannot be
        served.
        """
        ids = self._tokenizer().encode(prompt) if isinstance(prompt, str) else prompt
        ids = ids[-params.kept_tokens(self._context_len) :]
        params = self._within_context(len(ids), params)
        parts = self._config, self._tokenizer, self._grammars
        sequences = make_sequences([ids], params, *parts)
        for index, sequence in enumerate(sequences):
            sequence.index = self._num_sequences + index
            sequence.request = self._num_requests
            stream = RequestText(self._tokenizer, params).stream()
            self._completions[sequence.index] = _Completion(sequence, index, stream)
            self.streams[sequence.index] = stream
        if self._shares_prefixes:
            share_prefixes(sequences, self._config)
        self._engine.add(sequences)
        self._num_sequences += len(sequences)
        self._num_requests += 1
        return self._num_requests - 1

    def _within_context(self, prompt_len: int, params: SamplingParams) -> SamplingParams:
        room = self._context_len - prompt_len
        if room < 1 or (params.max_tokens or 1) > room:
            raise RequestError(
                f"A prompt of {prompt_len} tokens with max_tokens {params.max_tokens} was given; "
                f"memory is reserved for {self._context_len} tokens of a sequence, so give less of "
                "either."
            )
        if params.prompt_logprobs is not None:
            raise RequestError("prompt_logprobs were asked for; leave them out of an open run.")
        return replace(params, max_tokens=params.max_tokens or room, truncate_prompt_tokens=None)

    def cancel(self, request: int) -> None:
        """Take a request out, wherever it is; nothing of it comes any more."""
        found = [it for it in self._completions.values() if it.sequence.request == request]
        self._engine.machinery.scheduler.drop([it.sequence for it in found])
        for completion in found:
            self._forget(completion.sequence)

    def step(self) -> list[Delta]:
        """One sweep, and what it gave."""
        sampled = self._engine.step()
        self.sweep = self._engine.records.pop() if self._engine.records else None
        deltas = [self._delta(self._completions[sequence.index]) for sequence in sampled]
        self._retire([sequence for sequence in sampled if sequence.finish_reason])
        return deltas

    def _delta(self, completion: _Completion) -> Delta:
        sequence, given = completion.sequence, completion.given
        completion.given = len(sequence.output)
        return Delta(
            sequence.request,
            completion.index,
            next_piece(completion.stream, sequence),
            sequence.output[given:],
            sequence.logprobs[given:],
            sequence.finish_reason,
            len(sequence.prompt),
            sequence.num_cached,
            sequence.error,
            sequence.prompt,
        )

    def _retire(self, finished: Items[Sequence]) -> None:
        for sequence in finished:
            self._forget(sequence)
        self._finished += finished
        if len(self._finished) >= SAVED_AT_ONCE or not self.has_work:
            save_prefixes(self._finished, self._engine.machinery)
            self._finished.clear()

    def _forget(self, sequence: Sequence) -> None:
        del self._completions[sequence.index], self.streams[sequence.index]

    def close(self) -> None:
        """Forget the requests that are unfinished; the engine can be used again."""
        self._engine.machinery.scheduler.drop_all()
