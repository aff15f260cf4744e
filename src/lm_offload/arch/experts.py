"""The experts of a mixture as a config gives them, and how many of them some tokens use."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from lm_offload.arch.fields import Fields
from lm_offload.arch.shapes import ModelConfig


class Choice(NamedTuple):
    """What a model type means by keys that its config leaves out."""

    num_experts: int
    experts_per_token: int


def with_experts(config: ModelConfig, fields: Fields, key: str, default: Choice) -> ModelConfig:
    """A router and experts instead of one MLP in each layer; `key` holds their number."""
    num_experts = fields.integer(key, default.num_experts, minimum=2)
    chosen = fields.integer("num_experts_per_tok", default.experts_per_token)
    if chosen > num_experts:
        raise fields.wrong("num_experts_per_tok", f"at most {key}={num_experts}")
    return replace(config, num_experts=num_experts, experts_per_token=chosen)


def touched_experts(num_experts: int, experts_per_token: int, rows: float) -> float:
    """Expected number of experts that `rows` tokens use, each choosing evenly."""
    missed_frac: float = (1.0 - experts_per_token / num_experts) ** rows
    return num_experts * (1.0 - missed_frac)
