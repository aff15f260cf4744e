"""Which layers of a model in a GGUF file attend to a sliding window."""

from __future__ import annotations

from typing import Any

from lm_offload.arch.fields import Fields

WINDOW, PATTERN = "attention.sliding_window", "attention.sliding_window_pattern"


def windows(fields: Fields, num_layers: int, period: int) -> dict[str, Any]:
    """The window and `layer_types`; every `period`-th layer has none where the file says no more.

    Raises CheckpointError for a pattern that is none.
    """
    window = fields.integer(WINDOW, 0, minimum=0) or None
    slides = _pattern(fields, num_layers, period) if window else [False] * num_layers
    kinds = ["sliding_attention" if it else "full_attention" for it in slides]
    return {"sliding_window": window, "layer_types": kinds}


def _pattern(fields: Fields, num_layers: int, period: int) -> list[bool]:
    given = fields.get(PATTERN, period)
    if isinstance(given, list):
        if len(given) != num_layers or any(it not in (0, 1) for it in given):
            raise fields.wrong(PATTERN, f"a list of {num_layers} times true or false")
        return [bool(it) for it in given]
    period = Fields({PATTERN: given}, fields.where).integer(PATTERN, minimum=0)
    return [period == 0 or (layer + 1) % period != 0 for layer in range(num_layers)]
