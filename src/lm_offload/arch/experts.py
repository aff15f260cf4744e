"""The experts of a mixture as a config gives them, and how many of them some tokens use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from lm_offload.arch.fields import Fields
from lm_offload.arch.shapes import ModelConfig

MAX_EXPERTS = 10_000  # of a layer; far above any model: what lies beyond is a damaged config


class Choice(NamedTuple):
    """What a model type means by keys that its config leaves out."""

    num_experts: int
    experts_per_token: int


class Groups(NamedTuple):
    """The same of groups of experts, and of how many of them a token uses."""

    groups: int
    used: int


def with_experts(
    config: ModelConfig,
    fields: Fields,
    key: str,
    default: Choice,
    chosen_key: str = "num_experts_per_tok",
) -> ModelConfig:
    """A router and experts instead of one MLP in each layer; `key` holds their number."""
    num_experts = fields.integer(key, default.num_experts, minimum=2, maximum=MAX_EXPERTS)
    chosen = fields.integer(chosen_key, default.experts_per_token)
    if chosen > num_experts:
        raise fields.wrong(chosen_key, f"at most {key}={num_experts}")
    return replace(config, num_experts=num_experts, experts_per_token=chosen)


def with_groups(config: ModelConfig, fields: Fields, default: Groups) -> ModelConfig:
    """Experts are chosen from the best `topk_group` of `n_group` groups."""
    groups = fields.integer("n_group", default.groups)
    if config.num_experts % groups or (groups > 1 and config.num_experts < 2 * groups):
        raise fields.wrong("n_group", f"a divisor of {config.num_experts} that leaves two in each")
    used = fields.integer("topk_group", default.used)
    most = used * config.num_experts // groups
    if used > groups or config.experts_per_token > most:
        least = -(-config.experts_per_token * groups // config.num_experts)
        raise fields.wrong("topk_group", f"an integer from {least} to {groups}")
    return replace(config, expert_groups=groups, groups_per_token=used)


def with_dense_layers(config: ModelConfig, dense: Sequence[bool], narrow: int) -> ModelConfig:
    """Some layers keep one MLP of the config's width; experts of the others are `narrow`."""
    layers = zip(config.layers, dense, strict=True)
    return replace(
        config,
        layers=tuple(replace(layer, dense=is_dense) for layer, is_dense in layers),
        dense_size=config.intermediate_size if any(dense) else 0,
        intermediate_size=narrow,
    )


def first_dense(config: ModelConfig, fields: Fields, default: int) -> list[bool]:
    """Which layers have no experts where the first `first_k_dense_replace` have none."""
    most = config.num_layers - 1
    count = fields.integer("first_k_dense_replace", default, minimum=0)
    if count > most:
        raise fields.wrong("first_k_dense_replace", f"an integer from 0 to {most}")
    return [layer < count for layer in range(config.num_layers)]


def typed_dense(config: ModelConfig, fields: Fields) -> list[bool]:
    """The same where `mlp_layer_types` says it of each layer; without it the first is dense."""
    if fields.get("mlp_layer_types") is None:
        return first_dense(config, fields, 1)
    kinds = fields.kinds("mlp_layer_types", config.num_layers, ("dense", "sparse"))
    if "sparse" not in kinds:
        raise fields.wrong("mlp_layer_types", "a layer with experts")
    return [kind == "dense" for kind in kinds]


def touched_experts(num_experts: int, experts_per_token: int, rows: float) -> float:
    """Expected number of experts that `rows` tokens use, each choosing evenly."""
    missed_frac: float = (1.0 - experts_per_token / num_experts) ** rows
    return num_experts * (1.0 - missed_frac)
