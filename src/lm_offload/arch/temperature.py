"""Queries that grow with the logarithm of their position, so that long contexts stay sharp.

Scalable softmax (Nakanishi, arXiv:2501.19399) as Llama 4 and Ministral 3 have it: a query at
position p is multiplied with 1 + growth * log(1 + floor((p + first) / period)).
"""

from __future__ import annotations

from dataclasses import replace

from lm_offload.arch.fields import Fields
from lm_offload.arch.rope import TEMPERATURE, RopeConfig
from lm_offload.arch.shapes import LayerConfig, ModelConfig

GROWTH_KEY = "llama_4_scaling_beta"


def temperature(config: ModelConfig, growth: float, period: int, first: int = 0) -> RopeConfig:
    """A rope of angle zero whose cosines are the factors of queries."""
    return RopeConfig(
        TEMPERATURE,
        theta=1.0,
        rotary_dim=config.head_dim,
        original_max_positions=period,
        growth=growth,
        first_position=first,
    )


def tempered_by_rope(config: ModelConfig, fields: Fields) -> ModelConfig:
    """The same where the rope's section says how queries of all layers grow."""
    section = fields.section("rope_parameters") or fields.section("rope_scaling")
    if section is None or not section.get(GROWTH_KEY):
        return config
    period = section.integer("original_max_position_embeddings", minimum=2)
    factors = temperature(config, section.number(GROWTH_KEY), period)
    layers = (_tempered(layer, len(config.ropes)) for layer in config.layers)
    return replace(config, ropes=(*config.ropes, factors), layers=tuple(layers))


def _tempered(layer: LayerConfig, rope: int) -> LayerConfig:
    return replace(layer, tempered=rope)
