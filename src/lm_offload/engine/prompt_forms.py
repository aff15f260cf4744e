"""The forms in which prompts are given, as users of vLLM and transformers have them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Sequence as Items
from numbers import Integral
from typing import Any

from lm_offload.errors import RequestError

PlainPrompt = str | Items[int]  # text or token ids
Prompt = PlainPrompt | Mapping[str, Any]  # {"prompt": text} or {"prompt_token_ids": ids}, too


def as_batch(prompts: Prompt | Iterable[Prompt]) -> list[PlainPrompt]:
    """One prompt or several, as a list; arrays of token ids become lists.

    Raises RequestError for what is no prompt.
    """
    prompts = _listed(prompts)
    if isinstance(prompts, (str, Mapping)) or _is_ids(prompts):
        return [as_prompt(prompts)]
    if not isinstance(prompts, Iterable) or isinstance(prompts, bytes):
        raise _not_a_prompt("The prompt", prompts)
    return [as_prompt(prompt, f"Prompt {index}") for index, prompt in enumerate(prompts)]


def as_prompt(prompt: Any, name: str = "The prompt") -> PlainPrompt:
    """Text or token ids of one prompt; raises RequestError for what is none."""
    given = prompt
    if isinstance(prompt, Mapping):
        ids = prompt.get("prompt_token_ids")
        prompt = prompt.get("prompt") if ids is None else ids
    prompt = _listed(prompt)
    if isinstance(prompt, str) or (isinstance(prompt, Items) and not len(prompt)):
        return prompt
    if not _is_ids(prompt) or not all(map(_is_id, prompt)):
        raise _not_a_prompt(name, given)
    return prompt  # type: ignore[no-any-return]


def _is_ids(prompt: Any) -> bool:
    """Whether these begin as token ids do, which are never a batch."""
    is_row = isinstance(prompt, Items) and not isinstance(prompt, (str, bytes))
    return is_row and len(prompt) > 0 and isinstance(prompt[0], Integral)


def _is_id(token: Any) -> bool:
    return isinstance(token, Integral) and not isinstance(token, bool)


def _listed(prompts: Any) -> Any:
    """Arrays and tensors as lists of numbers."""
    return prompts.tolist() if hasattr(prompts, "tolist") else prompts


def _not_a_prompt(name: str, found: object) -> RequestError:
    shown = repr(found)
    shown = shown if len(shown) <= 60 else f"{shown[:60]}..."
    return RequestError(
        f"{name} is {shown}; allowed are text, a list of token ids, and "
        '{"prompt": text} or {"prompt_token_ids": ids}.'
    )
