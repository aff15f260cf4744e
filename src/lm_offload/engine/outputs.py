"""What a request gives back, in the shape that users of vLLM know, and what the run cost."""

from __future__ import annotations

from collections.abc import Sequence as Items
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from lm_offload.engine.completion import CompletionOutput, WithTexts
from lm_offload.errors import StorageError
from lm_offload.sampling.logprobs import Logprob
from lm_offload.step_time import StepTime


@dataclass(frozen=True)
class RequestOutput:
    """One finished request with its `n` completions; `ttft_s` counts from the call."""

    request_id: str  # its number among those of the `LLM`
    index: int  # of the prompt in the call
    prompt: str | None
    prompt_token_ids: list[int]
    outputs: tuple[CompletionOutput, ...]
    prompt_scores: Items[dict[int, Logprob] | None] | None = field(repr=False)
    with_texts: WithTexts = field(repr=False, compare=False)
    ttft_s: float
    num_cached_tokens: int  # of the prompt: not computed, since another prompt began alike

    @property
    def finished(self) -> bool:
        """True: outputs are given when all of their completions are finished."""
        return True

    @cached_property
    def prompt_logprobs(self) -> list[dict[int, Logprob] | None] | None:
        """Of each token of the prompt, as `logprobs` of a completion; none for the first one."""
        if self.prompt_scores is None:
            return None
        return [None, *self.with_texts([it for it in self.prompt_scores if it is not None])]

    @property
    def text(self) -> str:
        """The generated text."""
        return self.outputs[0].text

    def check_complete(self) -> None:
        """Raise StorageError where a completion could not be finished."""
        for output in self.outputs:
            if output.error is not None:
                raise StorageError(output.error)

    def __getstate__(self) -> dict[str, Any]:
        """For other processes: with the texts in place of the tokenizer."""
        state = {**vars(self), "with_texts": list}
        return {**state, "prompt_logprobs": self.prompt_logprobs}


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
    experts_used: int = 0  # of a mixture, each counted once for a layer
    experts_read: int = 0  # of these, those that were not in memory


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
    def experts_used(self) -> int:
        """Experts that rows used, counted once for each sweep and layer."""
        return sum(sweep.experts_used for sweep in self.sweeps)

    @property
    def experts_read(self) -> int:
        """How many of the experts used were not in memory."""
        return sum(sweep.experts_read for sweep in self.sweeps)

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
