"""Groups of options in the help of a command."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

PANELS = {
    "Serving": ("host", "port", "api_key", "max_running", "max_waiting"),
    "Prompts and results": (
        "prompt",
        "prompts_file",
        "requests",
        "output",
        "resume",
        "chat",
        "system",
        "served_model_name",
        "reasoning_parser",
        "tool_call_parser",
        "context_len",
        "trace",
        "show_plan",
        "as_json",
        "quiet",
    ),
    "Sampling": (
        "max_tokens",
        "min_tokens",
        "temperature",
        "top_k",
        "top_p",
        "min_p",
        "repetition_penalty",
        "presence_penalty",
        "frequency_penalty",
        "logit_bias",
        "bad_words",
        "allowed_token_ids",
        "seed",
        "n",
        "stop",
        "include_stop_str_in_output",
        "ignore_eos",
        "skip_special_tokens",
        "truncate_prompt_tokens",
        "logprobs",
        "prompt_logprobs",
    ),
    "Form of the outputs": ("json_schema", "regex", "choice"),
    "Workload": ("batch_size", "prompt_len", "gen_len", "micro_batches"),
    "Memory and precision": (
        "cpu_memory",
        "gpu_memory",
        "weight_format",
        "kv_format",
        "exact",
        "spill_dir",
        "prefix_cache",
        "prefix_cache_limit",
    ),
    "How it runs": (
        "device",
        "attention",
        "in_place",
        "on_oom",
        "objective",
        "speculation",
        "draft_model",
        "saved_plan",
        "threads",
        "overlap",
        "prefix_sharing",
    ),
}
_PANEL_OF = {name: panel for panel, names in PANELS.items() for name in names}


class GroupedCommand(TyperCommand):
    """A command whose help shows its options in panels; those of no panel come first."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        for option in self.params:
            option.rich_help_panel = _PANEL_OF.get(option.name or "")  # type: ignore[attr-defined]
