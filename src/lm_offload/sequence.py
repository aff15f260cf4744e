"""The nouns of one request and of one sweep; everyone imports them.

A sweep works on a ragged batch: one decode token of each running sequence, and chunks of prompts
that are still in prefill. What of it is computed together is a `MicroBatch`.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Items
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.sampling.guide import Guide
    from lm_offload.sampling.logprobs import Logprob
    from lm_offload.sampling.params import SamplingParams
    from lm_offload.sampling.token_rules import TokenRules

FinishReason = Literal["stop", "length", "error"] | None  # None while unfinished
LogitsConsumer = Callable[[int, "Tensor"], None]  # first position, its logits and those after it


@dataclass(eq=False)
class Sequence:
    """One request: its tokens, how far it is computed, and its place in the KV cache."""

    index: int  # position in the order of arrival
    prompt: Items[int]  # compact: thousands of prompts wait in memory
    params: SamplingParams
    request: int = 0  # the prompt it belongs to; several sequences where n > 1
    seed: int = 0
    rules: TokenRules | None = None  # which tokens may come, made of the parameters
    guide: Guide | None = None  # where its text stands in the grammar it is held to
    output: list[int] = field(default_factory=list)
    logprobs: list[dict[int, Logprob]] = field(default_factory=list)
    prompt_logprobs: list[dict[int, Logprob] | None] = field(default_factory=list)
    on_logits: LogitsConsumer | None = None  # takes logits of the prompt, [rows, V] f32 ...
    logits_from: int = 0  # ... at this position and after it
    blocks: list[int] = field(default_factory=list)  # KV block numbers in order of position
    lane: int = 0  # among those in flight: place of its states, and of a spilled cache's last block
    num_computed: int = 0  # tokens whose K and V are in the cache
    prefix_root: bytes | None = None  # begins the keys of its blocks; None: none are shared
    block_keys: list[bytes] = field(default_factory=list)  # of its full blocks so far
    num_shared_blocks: int = 0  # leading blocks that another sequence has computed or computes
    num_cached: int = 0  # tokens of the prompt that were not computed for this sequence
    redone_to: int = 0  # positions before it were computed once, until it was preempted
    losses: int = 0  # how often the disk lost something of it
    error: str | None = None  # why it could not be finished
    drafted: int = 0  # tokens that were guessed and verified
    accepted: int = 0  # of these, tokens that were kept
    finish_reason: FinishReason = None
    ends_with_stop_token: bool = False  # an end token of the model or one of `stop_token_ids`
    arrival_s: float = 0.0
    first_token_s: float | None = None

    @property
    def num_tokens(self) -> int:
        """Prompt and output tokens so far."""
        return len(self.prompt) + len(self.output)

    @property
    def num_uncomputed(self) -> int:
        """Tokens that the next sweeps must still work on: a prompt's rest, or one."""
        return self.num_tokens - self.num_computed

    @property
    def is_scored(self) -> bool:
        """Whether logits of its prompt are wanted."""
        return self.params.prompt_logprobs is not None or self.on_logits is not None

    @property
    def max_tokens(self) -> int:
        """Tokens this sequence can reach."""
        return len(self.prompt) + self.params.most_tokens

    @property
    def may_end_early(self) -> bool:
        """Whether a token or a text may end it before its longest."""
        params = self.params
        has_stops = bool(params.stop or params.stop_token_ids)
        return not params.ignore_eos or has_stops or params.structured_outputs is not None

    def append(self, token: int) -> None:
        """Add a token of a sweep that computed K and V of all tokens before it."""
        self.num_computed = self.num_tokens
        self.output.append(token)

    def skip_to(self, position: int) -> None:
        """Tokens before `position` are in the cache, and were not computed for this sequence."""
        counted = max(self.num_computed, self.redone_to)
        self.num_computed = position
        self.num_cached += max(position - counted, 0)

    def restart(self) -> None:
        """Give up what is in the KV cache: all tokens will be computed again, none anew drawn.

        What was computed has been scored, counted and shown, so none of that is done twice.
        """
        self.logits_from = max(self.logits_from, self.num_computed)
        self.redone_to = max(self.redone_to, self.num_computed)
        self.num_computed = self.num_shared_blocks = 0

    def tokens(self, start: int, stop: int) -> list[int]:
        """Token ids of positions `start` to `stop`."""
        length = len(self.prompt)
        generated = self.output[max(start - length, 0) : max(stop - length, 0)]
        return [*self.prompt[start:stop], *generated]


class Chunk(NamedTuple):
    """Consecutive positions of one sequence that a sweep works on.

    Recurrent layers may begin with a state that is kept, and keep the one behind the last position.
    """

    sequence: Sequence
    start: int
    stop: int
    draft: tuple[int, ...] = ()  # guessed tokens at its end, after the last known one
    wave: int = 0  # it follows all rows of lower waves, which keep states that it begins with
    loads: int | None = None  # the slot of the state before `start`
    saves: int | None = None  # the slot for the state behind `stop`

    def part(self, start: int, stop: int) -> Chunk:
        """Some of its positions; states belong to its ends."""
        if (start, stop) == (self.start, self.stop):
            return self
        loads = self.loads if start == self.start else None
        saves = self.saves if stop == self.stop else None
        return Chunk(self.sequence, start, stop, wave=self.wave, loads=loads, saves=saves)

    @property
    def known_stop(self) -> int:
        """One past the last position whose token is known."""
        return self.stop - len(self.draft)

    @property
    def token_ids(self) -> list[int]:
        """Token ids of its positions."""
        return [*self.sequence.tokens(self.start, self.known_stop), *self.draft]

    @property
    def completes(self) -> bool:
        """Whether the chunk reaches the last known token, so that the next one is sampled."""
        return self.known_stop == self.sequence.num_tokens

    @property
    def num_redone(self) -> int:
        """Rows at its start that were computed before."""
        return min(max(self.sequence.redone_to - self.start, 0), self.stop - self.start)

    @property
    def is_scored(self) -> bool:
        """Whether logits of its rows are wanted, for a consumer or for log probabilities."""
        return self.start < len(self.sequence.prompt) and self.sequence.is_scored

    @property
    def num_logits(self) -> int:
        """Rows at its end whose logits are wanted."""
        if not self.is_scored:
            return 1 + len(self.draft) if self.completes else 0
        return max(self.stop - max(self.start, self.sequence.logits_from), 0)


@dataclass(frozen=True)
class Batch:
    """What one sweep works on, in the order of its rows."""

    chunks: tuple[Chunk, ...]

    @property
    def num_tokens(self) -> int:
        """Rows of the sweep."""
        return sum(chunk.stop - chunk.start for chunk in self.chunks)

    @property
    def num_drafted(self) -> int:
        """Rows of guessed tokens."""
        return sum(len(chunk.draft) for chunk in self.chunks)

    @property
    def sampled(self) -> list[Sequence]:
        """The sequences that get a token from this sweep, or several."""
        return [chunk.sequence for chunk in self.chunks if chunk.completes]
