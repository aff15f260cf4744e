"""Tokens that an answer took, counted from its deltas."""

from __future__ import annotations

from lm_offload.server.answer_forms import Json
from lm_offload.server.replies import Choice


class Usage:
    """Of one answer."""

    def __init__(self) -> None:
        self._prompts: dict[int, tuple[int, int]] = {}  # tokens, those of them that were cached
        self._completion = 0
        self._reasoning = 0  # of them, those of deltas that showed nothing else

    def add(self, choice: Choice) -> None:
        """Count a delta."""
        delta, count = choice.delta, len(choice.delta.token_ids)
        self._prompts[choice.prompt] = delta.num_prompt_tokens, delta.num_cached_tokens
        self._completion += count
        self._reasoning += count if choice.reasoning and not choice.text else 0

    def as_json(self) -> Json:
        """As completions and chat have it."""
        prompt, cached = self._prompt
        return {
            "prompt_tokens": prompt,
            "completion_tokens": self._completion,
            "total_tokens": prompt + self._completion,
            "prompt_tokens_details": {"cached_tokens": cached},
        }

    def of_response(self) -> Json:
        """As `/v1/responses` has it."""
        prompt, cached = self._prompt
        return {
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
            "output_tokens": self._completion,
            "output_tokens_details": {"reasoning_tokens": self._reasoning},
            "total_tokens": prompt + self._completion,
        }

    @property
    def _prompt(self) -> tuple[int, int]:
        """Tokens of all prompts, and those of them that were cached."""
        tokens, cached = zip(*self._prompts.values(), strict=True) if self._prompts else ((), ())
        return sum(tokens), sum(cached)
