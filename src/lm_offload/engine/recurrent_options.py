"""Options that cannot be given for models with recurrent layers, whose state only moves forward."""

from __future__ import annotations

from pathlib import Path

from lm_offload.arch.config import ModelConfig
from lm_offload.errors import ConfigError
from lm_offload.planner.choose.draft_rows import FORCED


def check_recurrent(
    config: ModelConfig,
    speculation: str,
    draft_model: str | Path | None,
    prefix_cache: str | Path | None = None,
) -> None:
    """Raises ConfigError for options that need an earlier state of a sequence."""
    if config.recurrent is None:
        return
    drafts = "drafts cannot be taken back from a recurrent state"
    conflicts = (
        (speculation in FORCED, f"speculation is {speculation!r}", drafts),
        (draft_model is not None, "A draft model was given", drafts),
        (prefix_cache is not None, "A prefix cache was given", "the states of recurrent layers "
         "are kept in memory alone"),
    )  # fmt: skip
    for found, given, reason in conflicts:
        if found:
            raise ConfigError(
                f"{given} for a model of type {config.model_type}; {reason}, leave the option out."
            )


def check_draft(config: ModelConfig) -> None:
    """Raises ConfigError for a draft model whose tokens cannot be taken back."""
    if config.recurrent is not None:
        raise ConfigError(
            f"The draft model is {config.model_type}, whose recurrent layers cannot take drafts "
            "back; take a draft model without such layers, or none."
        )
