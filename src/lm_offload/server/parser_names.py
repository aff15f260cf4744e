"""What parsers are called, by vLLM's names; `auto` is by the chat template of the model."""

from __future__ import annotations

from typing import Literal

ReasoningParser = Literal["auto", "none", "qwen3", "glm45", "deepseek_r1", "openai_gptoss"]
ToolCallParser = Literal[
    "auto",
    "none",
    "hermes",
    "llama3_json",
    "mistral",
    "qwen3_coder",
    "glm45",
    "deepseek_v3",
    "openai",
]
