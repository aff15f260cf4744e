"""What a request gives back, in the shape that users of vLLM know, and what the run cost."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Items
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from lm_offload.errors import CheckpointError, StorageError
from lm_offload.sampling.logprobs import Logprob
from lm_offload.sequence import FinishReason
from lm_offload.step_time import StepTime


@dataclass(frozen=True)
class CompletionOutput:
    """The generated part; its text is decoded when it is asked for."""

    token_ids: list[int]
    finish_reason: FinishReason
    logprobs: list[dict[int, Logprob]] | None  # of each token, by token id
    decode: Callable[[list[int]], str] = field(repr=False, compare=False)
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

    @property
    def cumulative_logprob(self) -> float | None:
        """Sum of the log probabilities of the tokens; none where `logprobs` were not asked for."""
        if self.logprobs is None:
            return None
        places = zip(self.logprobs, self.token_ids, strict=True)
        return sum(place[token].logprob for place, token in places)

    def __getstate__(self) -> dict[str, Any]:
        """For other processes: with the text, where there is a tokenizer, in its place."""
        state = {**vars(self), "decode": _no_tokenizer}
        with suppress(CheckpointError):
            state["text"] = self.text
        return state


def _no_tokenizer(token_ids: list[int]) -> str:
    raise CheckpointError(
        "This output has no text, since it came from a process that found no tokenizer; decode its "
        "token_ids."
    )


@dataclass(frozen=True)
class RequestOutput:
    """One finished request with its `n` completions; `ttft_s` counts from the call."""

    index: int  # of the prompt in the call
    prompt: str | None
    prompt_token_ids: list[int]
    outputs: tuple[CompletionOutput, ...]
    prompt_logprobs: list[dict[int, Logprob] | None] | None  # none for the first token
    ttft_s: float
    num_cached_tokens: int  # of the prompt: not computed, since another prompt began alike

    @property
    def text(self) -> str:
        """The generated text."""
        return self.outputs[0].text

    def check_complete(self) -> None:
        """Raise StorageError where a completion could not be finished."""
        for output in self.outputs:
            if output.error is not None:
                raise StorageError(output.error)


@dataclass(frozen=True)
class SweepRecord:
    """One sweep: its prompt tokens, the tokens that its decodes gave, and its times."""

    prefill_tokens: int
    decode_tokens: int
    time: StepTime
    drafted: int = 0  # tokens that were guessed and verified
    accepted: int = 0  # of these, tokens that were kept
    cached_tokens: int = 0  # of the prompts completed here, taken from others that began alike
    preemptions: int = 0  # sequences that had to wait for room, from the start of the run
    redone_tokens: int = 0  # computed again after that; neither prefill nor decode
    swapped: int = 0  # of the preemptions, those that went to the disk
    retained_units: int = 0  # streamed units that lay in unused KV memory
    retained_bytes: int = 0  # of these, so not read


@dataclass(frozen=True)
class RunStats:
    """Prefill and decode apart: sweeps with any prompt token count as prefill."""

    sweeps: tuple[SweepRecord, ...]

    @property
    def prefill(self) -> Items[SweepRecord]:
        """Sweeps that worked on prompts."""
        return [sweep for sweep in self.sweeps if sweep.prefill_tokens]

    @property
    def decode(self) -> Items[SweepRecord]:
        """Sweeps of decode tokens alone."""
        return [sweep for sweep in self.sweeps if not sweep.prefill_tokens]

    @property
    def cached_tokens(self) -> int:
        """Prompt tokens that were not computed, since another prompt began alike."""
        return sum(sweep.cached_tokens for sweep in self.sweeps)

    @property
    def preemptions(self) -> int:
        """How often a sequence gave up its place in the KV cache to an older one."""
        return self.sweeps[-1].preemptions if self.sweeps else 0

    @property
    def swapped(self) -> int:
        """How many of the preemptions went to the disk; what the others had is computed again."""
        return self.sweeps[-1].swapped if self.sweeps else 0

    @property
    def redone_tokens(self) -> int:
        """Tokens that were computed again after that."""
        return sum(sweep.redone_tokens for sweep in self.sweeps)

    @property
    def retained_units(self) -> int:
        """The most streamed units that a sweep found in unused KV memory."""
        return max((sweep.retained_units for sweep in self.sweeps), default=0)

    @property
    def retained_bytes(self) -> int:
        """Bytes of weights that were not read because they still lay there."""
        return sum(sweep.retained_bytes for sweep in self.sweeps)

    @property
    def drafted(self) -> int:
        """Tokens that were guessed and verified."""
        return sum(sweep.drafted for sweep in self.sweeps)

    @property
    def accepted(self) -> int:
        """Drafted tokens that were kept."""
        return sum(sweep.accepted for sweep in self.sweeps)

    @property
    def tpot_s(self) -> float | None:
        """Seconds until each sequence has one token more, the mean of the decode sweeps."""
        tokens = sum(sweep.decode_tokens for sweep in self.decode)
        if not tokens:
            return None
        rows = tokens - sum(sweep.accepted for sweep in self.decode)
        return self.decode_s / len(self.decode) * rows / tokens

    @property
    def prefill_s(self) -> float:
        """Seconds in sweeps that worked on prompts."""
        return sum(sweep.time.total_s for sweep in self.prefill)

    @property
    def decode_s(self) -> float:
        """Seconds in sweeps of decode tokens alone."""
        return sum(sweep.time.total_s for sweep in self.decode)

    @property
    def prefill_tokens_per_s(self) -> float:
        """Prompt tokens over prefill seconds; 0 if there were none."""
        tokens = sum(sweep.prefill_tokens for sweep in self.prefill)
        return tokens / self.prefill_s if self.prefill_s else 0.0

    @property
    def decode_tokens_per_s(self) -> float:
        """Decode tokens over decode seconds; 0 if there were none."""
        tokens = sum(sweep.decode_tokens for sweep in self.decode)
        return tokens / self.decode_s if self.decode_s else 0.0
