"""Ways in which models write reasoning before what they say, by the names of vLLM's parsers.

::

    <think>Two and two.</think>It is 4.                        qwen3, glm45, deepseek_r1
    <|channel|>analysis<|message|>Two and two.<|end|>
    <|start|>assistant<|channel|>final<|message|>It is 4.      openai_gptoss, on one line
"""

from __future__ import annotations

OPEN, CLOSE = "<think>", "</think>"
DEEPSEEK, CHANNELS = "deepseek_r1", "openai_gptoss"
WAYS = ("qwen3", "glm45", DEEPSEEK, CHANNELS)
END_TOKENS = 16  # of a prompt, enough for a tag and the blanks after it


def begins_within(way: str, prompt_end: str) -> bool:
    """Whether a text after a prompt with this end begins within reasoning, without a tag.

    Templates may open it, or close it at once where none is wanted. DeepSeek's first models reason
    also where nothing says so.
    """
    end = prompt_end.rstrip()
    if way == DEEPSEEK:
        return not end.endswith(CLOSE)
    return way != CHANNELS and end.endswith(OPEN)
